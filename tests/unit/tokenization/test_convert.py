"""Requests → orders: defaults, and the rules that no single field can state."""

import struct

import pytest

from maas.tokenization.v1 import tokenization_pb2 as pb
from maas.tokenization.v1 import tokenization_service_pb2 as service_pb
from services.runtime.errors import InvalidInput, PreconditionFailed
from services.runtime.text.padding import Padding
from services.runtime.text.truncation import Truncation
from services.tokenization import convert, encode
from tests.unit.runtime.text.made import all_families

TOKENIZER = all_families()["word_piece"]
NO_PAD = all_families()["pieces_bpe"]


def field_of(error: pytest.ExceptionInfo[InvalidInput]) -> str:
    return error.value.violations[0].field


def test_unset_means_special_tokens_and_no_rules() -> None:
    order = convert.order(service_pb.TokenizeRequest(texts=["a", "bc"]), TOKENIZER)
    assert order == encode.Order(["a", "bc"], "texts", True)
    assert order.size == 3


def test_rules_carry_every_field() -> None:
    request = service_pb.TokenizeRequest(
        pairs=[pb.TextPair(first="a", second="b")],
        add_special_tokens=False,
        truncation=pb.Truncation(
            max_tokens=9, side=pb.SIDE_LEFT, stride=2, strategy=pb.TRUNCATION_STRATEGY_ONLY_SECOND
        ),
        padding=pb.Padding(to=pb.PADDING_TARGET_MULTIPLE, length=4, side=pb.SIDE_LEFT, pad_id=3),
        include=pb.Include(overflowing=True),
    )
    assert convert.order(request, TOKENIZER) == encode.Order(
        [("a", "b")],
        "pairs",
        False,
        Truncation(9, "left", 2, "only_second", overflowing=True),
        Padding("multiple", 3, "[SEP]", 4, "left"),
    )


def test_work_that_multiplies_counts_as_large() -> None:
    request = service_pb.TokenizeRequest(texts=["abc"], truncation=pb.Truncation(max_tokens=500, stride=400))
    assert convert.order(request, TOKENIZER).size == 1500
    request = service_pb.TokenizeRequest(
        texts=["a", "b"], padding=pb.Padding(to=pb.PADDING_TARGET_MAX, length=5000)
    )
    assert convert.order(request, TOKENIZER).size == 10002
    request = service_pb.TokenizeRequest(texts=["a" * 100, "b"], padding=pb.Padding())
    assert convert.order(request, TOKENIZER).size == 301


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (service_pb.TokenizeRequest(), "texts"),
        (service_pb.TokenizeRequest(texts=["a"], pairs=[pb.TextPair()]), "pairs"),
        (
            service_pb.TokenizeRequest(texts=["a"], padding=pb.Padding(to=pb.PADDING_TARGET_MAX)),
            "padding.length",
        ),
        (service_pb.TokenizeRequest(texts=["a"], padding=pb.Padding(pad_id=10**9)), "padding.pad_id"),
        (
            service_pb.TokenizeRequest(
                texts=["a"],
                truncation=pb.Truncation(max_tokens=9, strategy=pb.TRUNCATION_STRATEGY_ONLY_SECOND),
            ),
            "truncation.strategy",
        ),
    ],
)
def test_rules_between_fields_name_the_field(request_: service_pb.TokenizeRequest, field: str) -> None:
    with pytest.raises(InvalidInput) as error:
        convert.order(request_, TOKENIZER)
    assert field_of(error) == field


def test_padding_without_a_pad_token_needs_an_id() -> None:
    request = service_pb.TokenizeRequest(texts=["a"], padding=pb.Padding())
    with pytest.raises(InvalidInput, match="no pad token") as error:
        convert.order(request, NO_PAD)
    assert field_of(error) == "padding.pad_id"


def test_ids_come_packed_or_readable_and_are_checked() -> None:
    request = service_pb.DetokenizeRequest()
    request.sequences.add(values=[1, 2])
    request.sequences.add(packed=struct.pack("<2I", 3, 4), tokenizer_digest=TOKENIZER.digest)
    assert convert.sequences(request, TOKENIZER) == [[1, 2], [3, 4]]
    request.sequences.add(values=[0, 10**9])
    with pytest.raises(InvalidInput) as error:
        convert.sequences(request, TOKENIZER)
    assert field_of(error) == "sequences[2].values[1]"


def test_more_ids_than_one_request_may_hold_are_refused() -> None:
    request = service_pb.DetokenizeRequest()
    request.sequences.add(packed=bytes(4 * encode.MAX_IDS))
    request.sequences.add(values=[1])
    with pytest.raises(InvalidInput, match="split the request") as error:
        convert.sequences(request, TOKENIZER)
    assert field_of(error) == "sequences"


def test_ids_of_another_tokenizer_are_refused() -> None:
    request = service_pb.DetokenizeRequest()
    request.sequences.add(values=[1], tokenizer_digest="sha256:00")
    with pytest.raises(PreconditionFailed, match=TOKENIZER.digest):
        convert.sequences(request, TOKENIZER)


@pytest.mark.parametrize(
    ("later", "field"),
    [
        (service_pb.DetokenizeStreamRequest(model="b"), "model"),
        (service_pb.DetokenizeStreamRequest(version="2"), "version"),
        (service_pb.DetokenizeStreamRequest(skip_special_tokens=False), "skip_special_tokens"),
    ],
)
def test_a_stream_keeps_to_its_first_message(later: service_pb.DetokenizeStreamRequest, field: str) -> None:
    first = service_pb.DetokenizeStreamRequest(model="a")
    convert.require_same_model(first, service_pb.DetokenizeStreamRequest(model="a", skip_special_tokens=True))
    with pytest.raises(InvalidInput) as error:
        convert.require_same_model(first, later)
    assert field_of(error) == field
