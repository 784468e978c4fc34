"""Transduce: words to phonemes."""

import threading
from typing import Any

import grpc
import pytest

from maas.sequence.v1 import sequence_service_pb2 as pb
from services.runtime.oip_tensors import join_bytes
from services.sequence.models import encode
from tests.service.sequence.calls import asked, refused

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]


async def test_transduce_golden_words(stub: Any) -> None:
    reply = await stub.Transduce(
        pb.TransduceRequest(texts=["computer", "Phoneme", "tokenization", "phoneme computer"])
    )
    assert [result.text for result in reply.results] == [
        "K AH0 M P Y UW1 T ER0",
        "F OW1 N IY0 M",
        "T AA2 K AH0 N AH0 Z EY1 SH AH0 N",
        "F OW1 N IY0 M K AH0 M P Y UW1 T ER0",
    ]
    assert list(reply.results[1].symbols) == ["F", "OW1", "N", "IY0", "M"]
    assert not any(result.truncated for result in reply.results)
    assert reply.served_by.model == "g2p-en"


async def test_words_are_read_and_written_off_the_event_loop(
    stub: Any, inference: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def seen(function: Any) -> Any:
        def wrapped(*args: Any) -> Any:
            threads.append(threading.current_thread())
            return function(*args)

        return wrapped

    monkeypatch.setattr(encode, "text_to_words", seen(encode.text_to_words))
    monkeypatch.setattr(encode, "symbols", seen(encode.symbols))
    reply = await stub.Transduce(pb.TransduceRequest(texts=["computer"]))
    assert reply.timing.total_ms >= reply.timing.compute_ms > 0
    await inference.ModelInfer(asked("g2p-en", "text", "BYTES", [1], join_bytes([b"computer"])))
    assert len(threads) == 4 and threading.current_thread() not in threads


async def test_a_call_of_too_many_words_is_refused(stub: Any) -> None:
    call = stub.Transduce(pb.TransduceRequest(texts=["a " * 2048] * 5))
    await refused(call, grpc.StatusCode.INVALID_ARGUMENT, "texts[4]", "at most 8192 words")


@pytest.mark.parametrize("word", ["r2d2", "日本", "   ", "a" * 33])
async def test_what_is_no_word_is_named(stub: Any, word: str) -> None:
    call = stub.Transduce(pb.TransduceRequest(texts=["fine", word]))
    await refused(call, grpc.StatusCode.INVALID_ARGUMENT, "texts[1]")
