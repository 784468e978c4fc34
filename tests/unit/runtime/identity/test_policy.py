"""Rules: what none allows is denied; what is named must fit; administration is never given by a wildcard."""

import pytest

from services.runtime.errors import Denied, InvalidInput
from services.runtime.identity.caller import ANYBODY, Caller
from services.runtime.identity.policy import ADMINISTRATIVE, CRITICAL, TRUSTED, UNLIMITED, parse

CLASSIFY, TOKENIZE = "/maas.vision.v1.VisionService/Classify", "/maas.tokenization.v1.TokenizationService/Tokenize"
LOAD = "/maas.model.v1.ModelService/LoadModel"
FAR, NEAR = "ipv4:10.0.0.9:4000", "ipv4:127.0.0.1:4000"
READER = Caller("ci", "acme", frozenset({"reader"}))
OPERATOR = Caller("ada", "", frozenset({"operator", "reader"}))
POLICY = """
[[allow]]
roles = ["reader"]
methods = ["maas.vision.v1.VisionService/*"]
models = ["efficientnet-*", ""]

[[allow]]
tenants = ["acme"]
methods = ["*/Tokenize"]

[[allow]]
roles = ["operator"]
administration = true

[[allow]]
roles = ["oncall"]
methods = ["*/Classify"]
priorities = ["critical"]
"""


def may(caller: Caller, method: str, model: str = "", peer: str = FAR) -> bool:
    rights = parse(POLICY).of(caller)
    try:
        rights.check_method(method, peer)
        if rights.looks_at_models(method):
            rights.check_model(method, model)
    except Denied:
        return False
    return True


@pytest.mark.parametrize(
    ("caller", "method", "model", "allowed"),
    [
        (READER, CLASSIFY, "efficientnet-lite0", True),
        (READER, CLASSIFY, "", True),
        (READER, CLASSIFY, "mnist-cnn", False),
        (READER, TOKENIZE, "anything", True),
        (READER, LOAD, "mnist-cnn", False),
        (Caller("x", "other", frozenset({"reader"})), TOKENIZE, "", False),
        (Caller("x", "acme"), CLASSIFY, "efficientnet-lite0", False),
        (ANYBODY, TOKENIZE, "", False),
        (OPERATOR, CLASSIFY, "mnist-cnn", True),
        (OPERATOR, LOAD, "mnist-cnn", True),
        (Caller("gateway", "acme", vouched=True), LOAD, "any", True),
    ],
)
def test_rules_decide(caller: Caller, method: str, model: str, allowed: bool) -> None:
    assert may(caller, method, model) is allowed


@pytest.mark.parametrize("method", sorted(ADMINISTRATIVE))
def test_wildcard_gives_no_administration_and_no_place_does(method: str) -> None:
    everything = parse('[[allow]]\nmethods = ["*"]').of(READER)
    for peer in (NEAR, FAR):
        with pytest.raises(Denied):
            everything.check_method(method, peer)


@pytest.mark.parametrize("method", sorted(ADMINISTRATIVE))
def test_without_a_policy_administration_is_for_this_machine(method: str) -> None:
    UNLIMITED.check_method(method, NEAR)
    UNLIMITED.check_method(CLASSIFY, FAR)
    with pytest.raises(Denied, match="loopback"):
        UNLIMITED.check_method(method, FAR)


@pytest.mark.parametrize(
    ("caller", "method", "granted"),
    [
        (Caller("pat", "", frozenset({"oncall"})), CLASSIFY, True),
        (Caller("pat", "", frozenset({"oncall", "operator"})), TOKENIZE, False),
        (READER, CLASSIFY, False),
        (OPERATOR, CLASSIFY, False),
        (ANYBODY, CLASSIFY, False),
        (Caller("gateway", "acme", vouched=True), CLASSIFY, True),
    ],
)
def test_the_class_critical_is_given_by_name_for_the_methods_of_its_rule(
    caller: Caller, method: str, granted: bool
) -> None:
    assert parse(POLICY).of(caller).grants(method, CRITICAL) is granted
    assert UNLIMITED.grants(method, CRITICAL) and TRUSTED.grants(method, CRITICAL)


def test_an_empty_policy_denies_everything() -> None:
    with pytest.raises(Denied, match="ci may not call"):
        parse("").of(READER).check_method(CLASSIFY, NEAR)


def test_denial_of_a_model_says_which_are_allowed() -> None:
    with pytest.raises(Denied, match=r"'mnist-cnn' by .*; allowed: '', 'efficientnet-\*'"):
        parse(POLICY).of(READER).check_model(CLASSIFY, "mnist-cnn")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[allow]", "no TOML"),
        ("[[deny]]", "[[allow]] entries alone"),
        ("allow = 3", "[[allow]] entries alone"),
        ('[[allow]]\nrole = ["a"]', "'role' is not known"),
        ('[[allow]]\nroles = "a"', "list of texts"),
        ("[[allow]]\nroles = []", "not an empty one"),
        ('[[allow]]\nroles = [""]', "printable"),
        ("[[allow]]\nadministration = 1", "true or false"),
        ('[[allow]]\npriorities = ["batch"]', "only critical is granted"),
        ('[[allow]]\npriorities = "critical"', "list of texts"),
    ],
)
def test_a_rule_that_is_not_understood_is_refused_by_name(text: str, told: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse(text)
    assert told in str(error.value)
