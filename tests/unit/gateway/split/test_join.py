"""Replies of parts become the reply of the whole, and errors of parts name the whole's items."""

import struct

import pytest
from google.rpc import error_details_pb2

from gateway.split.join import joined, renumbered
from maas.common.v1.served_pb2 import Timing
from maas.sequence.v1.sequence_service_pb2 import EmbedResponse
from maas.tokenization.v1.tokenization_service_pb2 import CountTokensResponse, TokenizeResponse
from services.runtime.errors import Code, InvalidInput, Overloaded, ServiceError, Violation
from services.runtime.status import to_status

SERVED = {"model": "m", "version": "1", "digest": "d"}
TIMES = [
    {"queue_ms": 1, "compute_ms": 5, "total_ms": 9, "batch_size": 3},
    {"queue_ms": 2, "compute_ms": 4, "total_ms": 8, "batch_size": 2},
]


def test_lists_and_totals() -> None:
    parts = [
        CountTokensResponse(counts=[1, 2], total=3, tokenizer_digest="t", served_by=SERVED, timing=TIMES[0]),
        CountTokensResponse(counts=[4], total=4, tokenizer_digest="t", served_by=SERVED, timing=TIMES[1]),
    ]
    timing = Timing(queue_ms=2, compute_ms=9, total_ms=9, batch_size=3)
    whole = CountTokensResponse(counts=[1, 2, 4], total=7, tokenizer_digest="t", served_by=SERVED, timing=timing)
    assert joined(parts) == whole


def test_messages() -> None:
    parts = [TokenizeResponse(encodings=[{"ids": [n]}, {}], served_by=SERVED) for n in (1, 2)]
    assert [list(one.ids) for one in joined(parts).encodings] == [[1], [], [2], []]


@pytest.mark.parametrize("readable", [True, False])
def test_rows(readable: bool) -> None:
    def rows(*values: float) -> EmbedResponse:
        data = {"float_values": values} if readable else {"data": struct.pack(f"<{len(values)}f", *values)}
        tensor = {"dtype": 12, "shape": [len(values) // 2, 2], **data}
        return EmbedResponse(embeddings=tensor, token_counts=[9] * (len(values) // 2), served_by=SERVED)

    whole = rows(1, 2, 3, 4, 5, 6)
    whole.timing.SetInParent()
    assert joined([rows(1, 2, 3, 4), rows(5, 6)]) == whole


def violations(error: ServiceError) -> list[tuple[str, str]]:
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in to_status(error).details)
    return [(one.field, one.description) for one in bad.field_violations]


def test_errors_name_the_whole_s_items() -> None:
    broken = [Violation("images[5].encoded", "is no picture, as images[5] says"), Violation("top_k", "is 11")]
    told = renumbered(InvalidInput.many(broken), "images", 32)
    assert told.message == "images[37].encoded: is no picture, as images[5] says; top_k: is 11"
    assert violations(told) == [("images[37].encoded", broken[0].description), ("top_k", "is 11")]
    assert (told.code, told.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")


def test_a_path_in_a_wrapper_and_one_that_only_looks_like_it() -> None:
    error = InvalidInput("texts.values[0]", "is empty")
    assert violations(renumbered(error, "texts.values", 3)) == [("texts.values[3]", "is empty")]
    other = InvalidInput("mytexts.values[0]", "is empty")
    assert violations(renumbered(other, "texts.values", 3)) == [("mytexts.values[0]", "is empty")]


def test_other_errors_stay_as_they_are() -> None:
    error = Overloaded("full", reason="QUEUE_FULL", retry_after_s=2)
    told = renumbered(error, "images", 32)
    assert (told.code, told.reason, told.retry_after_s, told.message) == (
        Code.RESOURCE_EXHAUSTED,
        "QUEUE_FULL",
        2,
        "full",
    )
    assert to_status(told) == to_status(error)
