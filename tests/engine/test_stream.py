"""When the reader of a request is woken: for the first token, the end, and no more often than it may be."""

import asyncio
import math

import pytest

from services.generation.engine.output import Delta, FinishReason
from services.generation.stream import TokenStream
from tests.engine.tiny import sequence


class Silent:
    def stepped(self, sequences: int, waiting: int) -> None: ...

    def tokens(self, count: int, since_s: float, first: bool, span: object = None) -> None: ...

    def started(self, queue_s: float, prompt_tokens: int, cached_tokens: int) -> None: ...


def stream(gap: float) -> TokenStream:
    return TokenStream([sequence([1])], Silent(), lambda: gap)


async def read(found: TokenStream, batches: list[list[int]]) -> None:
    async for batch in found.batches():
        batches += [[token for delta in batch for token in delta.token_ids]]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_tokens_between_the_first_and_the_end_wait_for_their_time() -> None:
    slow, batches = stream(math.inf), list[list[int]]()
    reader = asyncio.create_task(read(slow, batches))
    one = slow.sequences[0]
    slow.feed(Delta(one, token_ids=(7,)))
    await settle()
    assert batches == [[7]]
    slow.feed(Delta(one, token_ids=(8,)))
    await settle()
    assert batches == [[7]]
    slow.feed(Delta(one, token_ids=(9,), finish=FinishReason.LENGTH))
    await reader
    assert batches == [[7], [8, 9]] and slow.finished


async def test_without_a_gap_every_token_comes_at_once() -> None:
    quick, batches = stream(0.0), list[list[int]]()
    reader = asyncio.create_task(read(quick, batches))
    for token in (7, 8, 9):
        quick.feed(Delta(quick.sequences[0], token_ids=(token,)))
        await settle()
    assert batches == [[7], [8], [9]]
    reader.cancel()


async def test_a_reader_that_is_late_gets_everything_in_order_and_then_the_error() -> None:
    late = stream(0.0)
    for token in (7, 8):
        late.feed(Delta(late.sequences[0], token_ids=(token,)))
    late.feed(Delta(late.sequences[0], error=ValueError("gone")))
    batches: list[list[int]] = []
    with pytest.raises(ValueError, match="gone"):
        await read(late, batches)
    assert batches == [[7, 8]]
