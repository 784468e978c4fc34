"""Limits declared in the protos are enforced, with the field's path and the limit in the text."""

from typing import Any

import pytest
from google.protobuf.message import Message

from maas.common.v1 import tensor_pb2
from maas.gateway.v1 import gateway_pb2, gateway_service_pb2
from maas.generation.v1 import generation_pb2, generation_service_pb2
from maas.sequence.v1 import sequence_service_pb2
from maas.tokenization.v1 import tokenization_service_pb2
from maas.vision.v1 import vision_service_pb2
from services.runtime.errors import InvalidInput
from services.runtime.validate import validate

Tokenize = tokenization_service_pb2.TokenizeRequest
Generate = generation_service_pb2.GenerateRequest
Sampling = generation_pb2.Sampling


def violation(message: Message) -> tuple[str, str]:
    with pytest.raises(InvalidInput) as caught:
        validate(message)
    first = caught.value.violations[0]
    return first.field, first.description


def test_good_requests_pass() -> None:
    validate(Tokenize(texts=["a"] * 256))
    validate(Generate(text="hi", sampling=Sampling(temperature=0, top_p=1, logit_bias={5: -100})))
    validate(sequence_service_pb2.ForecastRequest(series={"values": [1, 2]}, horizon_steps=3))


@pytest.mark.parametrize(
    ("message", "field", "words"),
    [
        (Tokenize(texts=["a"] * 257), "texts", "at most 256"),
        (Tokenize(texts=["a", "é" * 600_000]), "texts[1]", "at most 1048576"),
        (Generate(text="a", sampling=Sampling(temperature=-1)), "sampling.temperature", "at least 0"),
        (Generate(text="a", sampling=Sampling(temperature=float("nan"))), "sampling.temperature", "finite"),
        (Generate(text="a", sampling=Sampling(top_p=0)), "sampling.top_p", "above 0"),
        (Generate(text="a", sampling=Sampling(logit_bias={7: 101})), "sampling.logit_bias[7]", "at most 100"),
        (Generate(), "prompt", "one of text, token_ids, chat"),
        (Generate(chat={"messages": [{"content": "x"}]}), "chat.messages[0].role", "must not be empty"),
        (Generate(text="a", stopping={"stop": ["ok", ""]}), "stopping.stop[1]", "must not be empty"),
        (vision_service_pb2.ClassifyRequest(), "images", "at least 1"),
        (vision_service_pb2.ClassifyRequest(images=[{}]), "images[0].source", "must be set"),
        (sequence_service_pb2.ForecastRequest(horizon_steps=1), "series", "must be set"),
        (
            sequence_service_pb2.ForecastRequest(
                series={"values": [1]}, horizon_steps=1, quantiles=[0.5, float("nan")]
            ),
            "quantiles[1]",
            "finite",
        ),
        (Tokenize(texts=["a"], offset_unit=9), "offset_unit", "OFFSET_UNIT_BYTE"),
    ],
)
def test_breaches_are_named(message: Message, field: str, words: str) -> None:
    found, description = violation(message)
    assert found == field
    assert words in description


@pytest.mark.parametrize("kind", [tensor_pb2.Series, tensor_pb2.TokenIds])
def test_readable_lists_are_bounded_and_the_packed_form_is_named(kind: type[Any]) -> None:
    most = 1_048_576
    validate(kind(values=[1] * most))
    assert violation(kind(values=[1] * (most + 1))) == (
        "values",
        f"has {most + 1} items; at most {most} allowed, fill packed instead",
    )


def test_all_breaches_are_told_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        validate(Generate(sampling=Sampling(temperature=-1, top_p=2)))
    assert {v.field for v in caught.value.violations} == {"prompt", "sampling.temperature", "sampling.top_p"}


def test_what_is_deferred_is_not_looked_into() -> None:
    calls = [
        gateway_pb2.Call(id="a", count_tokens={}),
        gateway_pb2.Call(id="b" * 129, count_tokens={}),
        gateway_pb2.Call(id="c"),
    ]
    validate(gateway_service_pb2.FanOutRequest(calls=calls[:1]))
    with pytest.raises(InvalidInput) as caught:
        validate(gateway_service_pb2.FanOutRequest(calls=calls))
    assert [found.field for found in caught.value.violations] == ["calls[1].id", "calls[2].request"]
