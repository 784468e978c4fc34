"""Values go where paths say, or it is said why not."""

from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from gateway.steps.paths import PathError, leaf, parse
from gateway.steps.templates import TooLong, cut, filled, told
from gateway.steps.values import place, put, read
from maas.common.v1 import tensor_pb2
from maas.generation.v1 import generation_service_pb2
from maas.sequence.v1 import sequence_service_pb2
from maas.vision.v1 import vision_pb2, vision_service_pb2

REPLY = vision_service_pb2.ClassifyResponse(results=[{"labels": [{"index": 7, "name": "cat", "score": 0.25}]}])


def written(message: Message, path: str, value: Any) -> Any:
    parts = parse(path)
    found = leaf(message.DESCRIPTOR, parts)
    place(message, parts, found)
    put(message, parts, found, value)
    return message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("results[0].labels[0].name", "cat"),
        ("results[0].labels[0].score", 0.25),
        ("results[0].labels[0]", REPLY.results[0].labels[0]),
        ("results[0].labels", list(REPLY.results[0].labels)),
        ("timing", None),
    ],
)
def test_values_are_read(path: str, value: Any):
    if value is None:
        with pytest.raises(PathError, match="timing is not set"):
            read(REPLY, parse(path))
    else:
        assert read(REPLY, parse(path)) == value


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("results[1].labels[0].name", r"results\[1\] is not there: results has 1 item"),
        ("results[0].labels[2].name", r"labels\[2\] is not there: labels has 1 item"),
        ("served_by.model", "served_by is not set"),
    ],
)
def test_what_is_not_there_is_named(path: str, why: str):
    with pytest.raises(PathError, match=why):
        read(REPLY, parse(path))


def test_values_are_written_where_room_is_made():
    request = generation_service_pb2.GenerateRequest()
    written(request, "chat.messages[0].role", "user")
    written(request, "chat.messages[0].content", "hi")
    written(request, "sampling.top_k", 3)
    written(request, "stopping.stop", ["a", "b"])
    written(request, "stopping.stop[1]", "c")
    assert request == generation_service_pb2.GenerateRequest(
        chat={"messages": [{"role": "user", "content": "hi"}]},
        sampling={"top_k": 3},
        stopping={"stop": ["a", "c"]},
    )
    texts = sequence_service_pb2.TransduceRequest(texts=["a"])
    assert list(written(texts, "texts[1]", "b").texts) == ["a", "b"]
    picture = written(vision_service_pb2.ClassifyRequest(), "images[0]", vision_pb2.Image(encoded=b"1"))
    assert picture.images[0].encoded == b"1"


@given(st.integers(-(2**63), 2**64 - 1))
def test_whole_numbers_fit_or_are_refused(value: int):
    request = generation_service_pb2.GenerateRequest()
    for path, low, high in (
        ("sampling.top_k", 0, 2**32 - 1),
        ("sampling.seed", 0, 2**64 - 1),
        ("priority", -(2**31), 2**31 - 1),
    ):
        if low <= value <= high:
            assert read(written(request, path, value), parse(path)) == value
        else:
            with pytest.raises(PathError, match="does not fit"):
                written(request, path, value)


def test_a_double_beyond_float_is_refused():
    with pytest.raises(PathError, match="does not fit into temperature, a float"):
        written(generation_service_pb2.GenerateRequest(), "sampling.temperature", 1e300)
    assert written(tensor_pb2.Tensor(), "double_values[0]", 1e300).double_values[0] == 1e300


@given(st.lists(st.text(max_size=8), max_size=6), st.data())
def test_a_template_keeps_everything_but_its_holes(values: list[str], data: st.DataObject):
    around = st.text(st.characters(exclude_characters="{}"), max_size=8)
    texts = [data.draw(around) for _ in range(len(values) + 1)]
    holes = [data.draw(st.sampled_from(["{}", "{a.b}", "{a.b[0].c-d}"])) for _ in values]
    template = "".join(t + h for t, h in zip(texts, [*holes, ""], strict=True))
    found, named = cut(template)
    assert list(found) == texts and [f"{{{name}}}" for name in named] == holes
    expected = "".join(t + v for t, v in zip(texts, [*values, ""], strict=True))
    assert filled(found, values, len(expected)) == expected
    if expected:
        with pytest.raises(TooLong):
            filled(found, values, len(expected) - 1)


def test_other_braces_are_braces():
    assert cut('{"a": {}, "b": {c}}') == (('{"a": ', ', "b": {c}}'), ("",))


def test_numbers_are_told_in_few_digits():
    fields = vision_pb2.Label.DESCRIPTOR.fields_by_name
    label = vision_pb2.Label(index=3, score=0.1)
    assert told(fields["score"], label.score) == "0.1" and told(fields["index"], 3) == "3"
    completion = generation_service_pb2.GenerateResponse(completions=[{"finish_reason": 2}]).completions[0]
    field = completion.DESCRIPTOR.fields_by_name["finish_reason"]
    assert told(field, completion.finish_reason) == "FINISH_REASON_LENGTH" and told(field, 99) == "99"
    flag = generation_service_pb2.GenerateRequest.DESCRIPTOR.fields_by_name["stopping"].message_type
    assert told(flag.fields_by_name["ignore_eos"], True) == "true"
