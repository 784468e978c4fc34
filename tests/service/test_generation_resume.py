"""Streams that break and go on elsewhere: at every cut, again and again, for several readers at once."""

import asyncio
from typing import Any
from unittest.mock import ANY

import pytest
from grpc import aio

from maas.generation.v1 import generation_pb2 as pb
from tests.service.generation import TEXT, WARM, Ask, Stub, free, streamed
from tests.service.streams import PLAIN, broken, read_on, reason, resumed, resuming, whole

WIDE = Ask(
    text=TEXT,
    sampling=pb.Sampling(temperature=3.0, seed=5, n=3, frequency_penalty=0.5, bad_words=["ab"]),
    stopping=free(40, stop=["e", "the"]),
    output=pb.Output(logprobs=1, prompt_logprobs=1, echo=True),
)
BEAMS = Ask(
    text=TEXT,
    sampling=pb.Sampling(num_beams=4, n=3),
    stopping=free(12),
    output=pb.Output(logprobs=1, prompt_logprobs=1, echo=True),
)


@pytest.mark.parametrize("request_", [WIDE, PLAIN], ids=["wide", "plain"])
async def test_every_cut_of_a_finished_stream_is_told_again(pair: tuple[Stub, Stub], request_: Ask) -> None:
    one, other = pair
    messages = [message async for message in one.GenerateStream(streamed(request_))]
    for after in range(len(messages) + 1):
        assert await resumed(other, messages[0].stream_id, after) == messages[after:]


@pytest.mark.parametrize("asked", ["each token", "intervals", "beams"])
async def test_every_cut_of_a_broken_stream_joins_to_the_unary_answer(pair: tuple[Stub, Stub], asked: str) -> None:
    one, other = pair
    request = Ask()
    request.CopyFrom(BEAMS if asked == "beams" else WIDE)
    request.output.stream_interval_tokens = 7 if asked == "intervals" else 1
    unary = await one.Generate(request)
    total = len([message async for message in one.GenerateStream(streamed(request))])
    for after in range(1, total):
        told = await broken(one, streamed(request), after)
        messages = told + await resumed(other, told[0].stream_id, len(told))
        found = whole(messages)
        assert [found[index] for index in range(3)] == list(unary.completions)
        assert messages[0].prompt_logprobs == unary.prompt_logprobs and messages[0].seed == unary.seed
        assert messages[-1].usage.prompt_tokens == unary.usage.prompt_tokens
        assert messages[-1].usage.completion_tokens == unary.usage.completion_tokens


async def test_a_resumed_stream_breaks_and_goes_on_again(pair: tuple[Stub, Stub]) -> None:
    one, other = pair
    messages = await broken(one, streamed(PLAIN), 5)
    stream_id, seed = messages[0].stream_id, messages[0].seed
    for stub, more in ((other, 7), (one, 11), (other, 13)):
        messages += await broken(stub, resuming(stream_id, len(messages)), more)
    messages += await resumed(one, stream_id, len(messages))
    unary = await one.Generate(Ask(text=TEXT, sampling=pb.Sampling(temperature=1.5, seed=seed), stopping=free(60)))
    found = whole(messages)[0]
    assert (found.text, list(found.token_ids)) == (unary.completions[0].text, unary.completions[0].token_ids)
    # What the first replica told and nobody heard is the record's all the same.
    assert await resumed(other, stream_id, 0) == messages


async def test_readers_of_one_stream_get_the_same_messages(pair: tuple[Stub, Stub]) -> None:
    one, other = pair
    request = Ask(text=TEXT, sampling=WARM, stopping=free(150))
    unary = (await one.Generate(request)).completions[0]
    for turn in range(6):
        live = one.GenerateStream(streamed(request))
        told = [await live.read() for _ in range(3)]
        if turn % 2:
            live.cancel()

        async def listened(live: Any = live) -> list[Any]:
            found: list[Any] = []
            if live.cancelled():
                return found
            try:
                await read_on(live, found)
            except aio.AioRpcError as error:
                assert reason(error) == ("STREAM_TAKEN_OVER", {"last_sequence_number": ANY})
                kept = int(reason(error)[1]["last_sequence_number"])
                del found[max(kept - 3, 0) :]
            return found

        again = (resumed(stub, told[0].stream_id, after) for stub, after in ((one, 3), (other, 2), (other, 0)))
        first, second, third, rest = await asyncio.gather(*again, listened())
        assert told + first == told[:2] + second == third
        assert whole(third)[0].text == unary.text and list(whole(third)[0].token_ids) == list(unary.token_ids)
        # Ended well, it has all, also where its last messages were cut otherwise.
        ended = bool(rest) and rest[-1].HasField("usage")
        assert whole(told + rest)[0].text == unary.text if ended else rest == first[: len(rest)]


async def test_ids_are_the_servers_own(pair: tuple[Stub, Stub]) -> None:
    async def told() -> str:
        call = pair[0].GenerateStream(streamed(PLAIN), metadata=(("x-request-id", "mine"),))
        return str((await call.read()).stream_id)

    first, second = await told(), await told()
    assert first != second and "mine" not in (first, second) and min(len(first), len(second)) >= 24
