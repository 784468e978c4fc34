"""Equal keys if and only if the requests mean the same to the same model."""

import re
from array import array
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cache_key import cache_key, deterministic, fingerprint
from gateway.canonical import canonical
from gateway.flush import Scope
from gateway.methods import SERVICES, Method, methods_of
from maas.common.v1 import tensor_pb2
from maas.generation.v1 import generation_service_pb2
from maas.sequence.v1 import sequence_service_pb2
from maas.tokenization.v1 import tokenization_pb2, tokenization_service_pb2
from maas.vision.v1 import vision_service_pb2

METHODS = {method.path: method for area, service in SERVICES.items() for method in methods_of(area, service)}

# A request built from drawn values, and what those values mean: None = unset.
Drawn = tuple[Any, tuple[Any, ...]]

maybe = st.none() | st.booleans()


def given_or(value: Any, default: Any) -> Any:
    return default if value is None else value


@st.composite
def tokenize(draw: st.DrawFn) -> Drawn:
    texts = draw(st.lists(st.sampled_from(["a", "b"]), max_size=2))
    special, unit = draw(maybe), draw(st.sampled_from([0, 1, 2]))
    side, strategy = draw(st.sampled_from([0, 1, 2])), draw(st.sampled_from([0, 1, 2]))
    cut, include, masks = draw(st.sampled_from([None, 4, 5])), draw(st.booleans()), draw(st.booleans())
    request = tokenization_service_pb2.TokenizeRequest(
        texts=texts, add_special_tokens=special, offset_unit=unit, model=draw(st.sampled_from(["", "m"]))
    )
    if cut is not None:
        request.truncation.CopyFrom(tokenization_pb2.Truncation(max_tokens=cut, side=side, strategy=strategy))
    if include:
        request.include.masks = masks
    truncation = None if cut is None else (cut, side or 2, strategy or 1)
    return request, (tuple(texts), given_or(special, True), unit or 1, truncation, include and masks)


@st.composite
def generate(draw: st.DrawFn) -> Drawn:
    pick = lambda *values: draw(st.sampled_from([None, *values]))  # noqa: E731
    text, salt = draw(st.sampled_from(["a", "b"])), pick("", "s")
    sampling = {"temperature": pick(0, 0.5), "top_k": pick(0, 3), "top_p": pick(1, 0.5), "seed": pick(0, 1)}
    sampling |= {"num_beams": pick(1, 4), "length_penalty": pick(1, 0)}
    stopping = {"max_tokens": pick(256, 5), "ignore_eos": draw(maybe)}
    output = {"echo": draw(maybe), "skip_special_tokens": draw(maybe), "stream_interval_tokens": pick(1, 2)}
    bias = draw(st.permutations([(1, 0.5), (2, 1.0)]))
    request = generation_service_pb2.GenerateRequest(text=text, cache_salt=salt, priority=pick(0, 1))
    for part, values in ((request.sampling, sampling), (request.stopping, stopping), (request.output, output)):
        if draw(st.booleans()):
            part.SetInParent()
        for name, value in values.items():
            if value is not None:
                setattr(part, name, value)
    for token, weight in bias:
        request.sampling.logit_bias[token] = weight
    told = (text, salt, sampling["temperature"] or 0, sampling["top_k"] or 0, given_or(sampling["top_p"], 1))
    seeded = (sampling["seed"], given_or(stopping["max_tokens"], 256), bool(stopping["ignore_eos"]))
    searched = (given_or(sampling["num_beams"], 1), given_or(sampling["length_penalty"], 1))
    meaning = (*told, *seeded, *searched, bool(output["echo"]), given_or(output["skip_special_tokens"], True))
    return request, meaning


@st.composite
def classify_image(draw: st.DrawFn) -> Drawn:
    images = draw(st.lists(st.sampled_from([b"x", b"y", b""]), max_size=2))
    top_k = draw(st.sampled_from([None, 4, 5]))
    request = vision_service_pb2.ClassifyRequest(images=[{"encoded": image} for image in images], top_k=top_k)
    # Unset is 5 at most; a model of 3 classes refuses 5.
    return request, (tuple(images), top_k)


@st.composite
def classify_sequence(draw: st.DrawFn) -> Drawn:
    kind = draw(st.sampled_from(["texts", "token_ids", "series"]))
    values = draw(st.lists(st.sampled_from([0, 1, 2**31]), min_size=1, max_size=3))
    packed, features = draw(st.booleans()), draw(st.sampled_from([0, 1, 2]))
    request = sequence_service_pb2.ClassifyRequest(version=draw(st.sampled_from(["", "1"])))
    if kind == "texts":
        request.texts.values.extend(map(str, values))
        return request, (kind, tuple(values))
    if kind == "token_ids":
        data = {"packed": array("I", values).tobytes()} if packed else {"values": values}
        request.token_ids.sequences.append(tensor_pb2.TokenIds(**data))
        return request, (kind, tuple(values))
    data = {"packed": array("f", values).tobytes()} if packed else {"values": values}
    request.series.values.append(tensor_pb2.Series(features=features, **data))
    return request, (kind, tuple(values), features or 1)


ANY = st.one_of(tokenize(), generate(), classify_image(), classify_sequence())


def key(request: Any, model: str = "m", digest: str = "d", tenant: str = "") -> str:
    return cache_key(request.DESCRIPTOR.full_name, model, digest, tenant, fingerprint(request))


@pytest.mark.parametrize("requests", [tokenize(), generate(), classify_image(), classify_sequence()])
def test_equal_key_if_and_only_if_equal_meaning(requests: st.SearchStrategy[Drawn]):
    @settings(max_examples=100, deadline=None)
    @given(requests, requests)
    def check(first: Drawn, second: Drawn) -> None:
        assert (key(first[0]) == key(second[0])) == (first[1] == second[1])

    check()


names = st.text(st.characters(codec="utf-8"), max_size=3)


@settings(deadline=None)
@given(ANY, st.tuples(names, names, names), st.tuples(names, names, names))
def test_model_digest_and_tenant_are_told_apart_however_they_are_cut(
    drawn: Drawn, first: tuple[str, str, str], second: tuple[str, str, str]
):
    request, _ = drawn
    assert (key(request, *first) == key(request, *second)) == (first == second)


@settings(deadline=None)
@given(ANY)
def test_the_request_itself_is_left_alone(drawn: Drawn):
    request, _ = drawn
    before = request.SerializeToString(deterministic=True)
    canonical(request)
    assert request.SerializeToString(deterministic=True) == before


def test_the_method_is_part_of_the_key():
    request = vision_service_pb2.EmbedRequest(images=[{"encoded": b"x"}])
    same_bytes = vision_service_pb2.ClassifyRequest.FromString(request.SerializeToString())
    assert key(request) != key(same_bytes)


def test_fields_this_build_does_not_know_are_part_of_the_key():
    known = vision_service_pb2.EmbedRequest(images=[{"encoded": b"x"}])
    newer = vision_service_pb2.EmbedRequest.FromString(known.SerializeToString() + b"\xa8\x46\x01")
    assert key(known) != key(newer)


def test_the_key_is_a_namespaced_hash_and_a_cluster_slot():
    name = key(vision_service_pb2.ClassifyRequest(images=[{"encoded": b"secret"}]))
    assert re.fullmatch(r"maas:v1:answer:[0-9a-f]{12}:[0-9a-f]{12}:\{[0-9a-f]{48}\}", name)


def test_flushing_covers_the_answers_of_a_tenant_or_a_model_and_no_others():
    keys = {(t, m): cache_key("/s/M", m, "d", t, b"c") for t in ("", "t") for m in ("m", "n")}
    for tenant, model in product((None, "", "t", "u"), (None, "m", "n", "o")):
        scope = Scope(tenant, model)
        meant = {k for (t, m), k in keys.items() if tenant in (None, t) and model in (None, m)}
        assert {key for key in keys.values() if scope.covers(key)} == meant
        # Redis' patterns are the shell's, but for braces, which mean themselves.
        assert {key for key in keys.values() if fnmatchcase(key, scope.pattern)} == meant


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [({}, True), ({"temperature": 0}, True), ({"temperature": 1}, False), ({"temperature": 1, "seed": 0}, True)],
)
def test_unseeded_sampling_is_never_remembered(sampling: dict[str, float], expected: bool):
    request = generation_service_pb2.GenerateRequest(text="x", sampling=sampling)
    method = METHODS["/maas.generation.v1.GenerationService/Generate"]
    assert deterministic(method, request) is expected


def test_what_may_be_remembered_at_all():
    def forgets(method: Method) -> bool:
        return not deterministic(method, method.request())

    assert sorted(path.split("/")[-1] for path, method in METHODS.items() if forgets(method)) == [
        "ClassifyStream",
        "DetokenizeStream",
        "GenerateStream",
        "RunSession",
        "StepSession",
        "TokenizeStream",
    ]


def test_every_part_of_a_constraint_is_part_of_the_key():
    shapes: list[dict[str, Any]] = [
        {},
        {"json_object": True},
        {"regex": "a"},
        {"grammar": "a"},
        {"json_schema": "a"},
    ]
    shapes += [{"json_schema": "b"}, {"choice": {"values": ["a"]}}, {"choice": {"values": ["a", "b"]}}]
    keys = {key(generation_service_pb2.GenerateRequest(text="x", constraint=shape)) for shape in shapes}
    assert len(keys) == len(shapes)
