"""What is wrong with steps is said before anything runs: the step, the binding, the path and the fix."""

from typing import Any

import pytest

from gateway.steps.check import plan
from maas.gateway.v1 import gateway_pb2
from services.runtime.errors import InvalidInput

PICTURE = {"classify_image": {"images": [{"encoded": b"1"}]}}
INPUTS = {"picture": "image", "word": "text", "count": "integer", "ratio": "number", "ids": "token_ids"}


def step(name: str, request: dict[str, Any], *bindings: tuple[str, ...]) -> gateway_pb2.Step:
    keys = ("target_path", "source_path", "template")
    bound = [dict(zip(keys, binding, strict=False)) for binding in bindings]
    return gateway_pb2.Step(name=name, request=request, bindings=bound)


def refusal(*steps: gateway_pb2.Step) -> str:
    with pytest.raises(InvalidInput) as caught:
        plan(steps, INPUTS, "steps")
    return caught.value.message


def wrong(target: str, source: str, template: str = "", request: dict[str, Any] | None = None) -> str:
    """What is said of one binding of a step beside two that reply labels and tokens."""
    others = step("labels", PICTURE), step("ids", {"tokenize": {"texts": ["a"]}})
    kind = target.partition(".")[0]
    known = kind in gateway_pb2.Call.DESCRIPTOR.fields_by_name
    one = step("one", request or {kind if known else "generate": {}}, (target, source, template))
    told = refusal(*others, one)
    assert told.startswith("steps[2].bindings[0].") and "step 'one': " in told
    place, _, why = told.partition(": step 'one': ")
    return f"{place.rpartition('.')[2]}: {why}"


LABEL = "labels.results[0].labels[0]"


@pytest.mark.parametrize(
    ("target", "source"),
    [
        ("generate.text", f"{LABEL}.name"),
        ("generate.sampling.temperature", f"{LABEL}.score"),
        ("generate.sampling.temperature", f"{LABEL}.index"),
        ("generate.sampling.seed", f"{LABEL}.index"),
        ("generate.chat.messages[0].content", f"{LABEL}.name"),
        ("classify_image.images[0]", "inputs.picture"),
        ("classify_image.images[0].encoded", "inputs.picture.encoded"),
        ("classify_image.top_k", "inputs.count"),
        ("generate.sampling.top_p", "inputs.ratio"),
        ("generate.token_ids", "inputs.ids"),
        ("detokenize.sequences[0].values", "ids.encodings[0].ids"),
        ("detokenize.sequences[0].values[0]", "ids.encodings[0].ids[7]"),
        ("generate.sampling.bad_words", "ids.encodings[0].tokens"),
        ("generate.model", "labels.served_by.model"),
    ],
)
def test_what_fits_is_taken(target: str, source: str):
    others = step("labels", PICTURE), step("ids", {"tokenize": {"texts": ["a"]}})
    one = step("one", {target.partition(".")[0]: {}}, (target, source))
    found = plan([*others, one], INPUTS, "steps")
    root = source.partition(".")[0].partition("[")[0]
    assert found.needs["one"] == (() if root == "inputs" else (root,))


@pytest.mark.parametrize(
    ("target", "source", "told"),
    [
        (
            "generate.text",
            "label.results[0]",
            "source_path: there is no step 'label'; there are ids, inputs.count,",
        ),
        ("generate.text", "inputs.wort", "source_path: there is no input 'wort'; there are ids, inputs.count,"),
        ("generate.text", "labels", "source_path: 'labels' is a step; name a field of its reply"),
        (
            "generate.text",
            "labels.classify_image.results[0]",
            "source_path: ClassifyResponse has no field 'classify_image'; it has results, served_by, timing",
        ),
        (
            "generate.text",
            "labels.results.labels[0]",
            "source_path: results is a list; say which item, as in results[0]",
        ),
        ("generate.text", "labels.served_by[0].model", "source_path: served_by is no list; leave [0] out"),
        (
            "generate.text",
            f"{LABEL}.name.first",
            "source_path: name is no message; end the path there, without .first",
        ),
        ("generate.text", "inputs.word[0]", "source_path: text is no list; leave [0] out"),
        ("generate.text", "labels..name", "source_path: 'labels..name' is no path; write it as in"),
        ("generate.text", f"{LABEL}.score", "source_path: score is a number, text takes text; give a template"),
        ("generate.text", LABEL, "source_path: labels is a Label, text takes text"),
        ("generate.text", "inputs.picture.encoded", "source_path: encoded is bytes, text takes text"),
        (
            "generate.sampling.top_k",
            f"{LABEL}.score",
            "source_path: score is a number, top_k takes a whole number",
        ),
        ("generate.sampling.top_k", f"{LABEL}.name", "source_path: name is text, top_k takes a whole number"),
        (
            "generate.stopping.ignore_eos",
            f"{LABEL}.index",
            "source_path: index is a whole number, ignore_eos takes a bool",
        ),
        (
            "generate.text",
            "ids.encodings[0].tokens",
            "source_path: tokens is a list and text is not; say which item",
        ),
        ("generate.stopping.stop", f"{LABEL}.name", "source_path: stop is a list and name is not; say which item"),
        ("generate.chat", "inputs.picture", "source_path: image is a Image, chat takes a Chat"),
        ("classify_image.images[0]", "inputs.word", "source_path: text is text, images takes a Image"),
        (
            "generate",
            f"{LABEL}.name",
            "target_path: 'generate' must begin with 'generate', what the step calls, and name",
        ),
        ("text", f"{LABEL}.name", "target_path: 'text' must begin with 'generate'"),
        (
            "generate.texts",
            f"{LABEL}.name",
            "target_path: GenerateRequest has no field 'texts'; it has model, version,",
        ),
        ("generate.sampling.logit_bias", f"{LABEL}.name", "target_path: logit_bias is a map"),
        (
            "generate.chat.messages[1].content",
            f"{LABEL}.name",
            "target_path: messages has 0 items; fill messages[0] first",
        ),
    ],
)
def test_what_does_not_fit_is_named(target: str, source: str, told: str):
    assert wrong(target, source).startswith(told)


@pytest.mark.parametrize(
    ("target", "source", "template", "told"),
    [
        ("generate.text", f"{LABEL}.name", "a cat", "template: has no {} for the value of source_path"),
        (
            "generate.sampling.top_k",
            f"{LABEL}.name",
            "{}",
            "template: a template makes text, top_k takes a whole number",
        ),
        (
            "generate.stopping.stop",
            f"{LABEL}.name",
            "{}",
            "template: a template makes text, stop takes a list (text each)",
        ),
        ("generate.text", LABEL, "{}", "source_path: labels is a Label, which no template tells"),
        (
            "generate.text",
            "inputs.picture.encoded",
            "{}",
            "source_path: encoded is bytes, which no template tells",
        ),
        (
            "generate.text",
            "ids.encodings[0].ids",
            "{}",
            "source_path: ids is a list; say which item, as in ids[0]",
        ),
        (
            "generate.text",
            f"{LABEL}.name",
            "{} {labels.nothing}",
            "source_path: ClassifyResponse has no field 'nothing'",
        ),
    ],
)
def test_templates_are_checked(target: str, source: str, template: str, told: str):
    assert wrong(target, source, template).startswith(told)


def test_a_second_kind_of_prompt_is_refused():
    told = wrong(
        "generate.text", f"{LABEL}.name", request={"generate": {"chat": {"messages": [{"role": "user"}]}}}
    )
    assert told == "target_path: chat is set already; prompt is either chat or text"


def test_no_binding_overwrites_another():
    bindings = ("generate.chat.messages[0].content", "inputs.word"), ("generate.chat.messages[0]", "inputs.word")
    for pair in (bindings, (bindings[0], bindings[0])):
        told = refusal(step("one", {"generate": {}}, *pair))
        assert told.startswith("steps[0].bindings[1].")
    assert "bindings[0] fills chat.messages[0].content already" in told


def test_names_are_usable_and_unique():
    assert "'a.b' is no name" in refusal(step("a.b", PICTURE))
    assert "'inputs' is no name" in refusal(step("inputs", PICTURE))
    assert refusal(step("a", PICTURE), step("a", PICTURE)).startswith("steps[1].name: 'a' is used twice")


def test_there_are_not_more_values_than_can_be_checked_at_once():
    many = step("one", {"generate": {}}, ("generate.text", "inputs.word", "{}" * 4095))
    plan([many], INPUTS, "steps")
    assert refusal(many, step("two", {"generate": {}}, ("generate.text", "inputs.word"))).startswith(
        "steps: have 4097"
    )


def test_rings_are_named():
    def needing(name: str, other: str) -> gateway_pb2.Step:
        return step(name, {"transduce": {}}, ("transduce.texts[0]", f"{other}.results[0].text"))

    assert (
        refusal(needing("a", "a"))
        == "steps[0].bindings: step 'a' needs its own reply: a → a; take one binding out"
    )
    told = refusal(step("first", PICTURE), needing("a", "b"), needing("b", "a"))
    assert told.startswith("steps[1].bindings: step 'a' is in a ring") and "a → b → a" in told


def test_a_step_may_come_before_what_it_needs():
    late = step(
        "text", {"generate": {}}, ("generate.text", f"{LABEL}.name", "{}, {labels.served_by.model} {inputs.word}")
    )
    assert plan([late, step("labels", PICTURE)], INPUTS, "steps").needs == {"text": ("labels",), "labels": ()}
