"""Envelopes at a service, by hand: each item ends by itself, and nothing that a sender does harms another's."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from maas.internal.v1 import envelope_service_pb2 as pb
from maas.tokenization.v1 import tokenization_pb2
from maas.tokenization.v1 import tokenization_service_pb2 as tokens
from maas.tokenization.v1 import tokenization_service_pb2_grpc as tokens_grpc
from services.runtime.context import current
from services.runtime.envelope import exchange
from services.runtime.envelope.methods import EXCHANGE
from services.runtime.floor import Floor
from services.runtime.settings import ServerSettings
from tests.harness import running

SERVICE = "/maas.tokenization.v1.TokenizationService"
TOKENIZE, CHAT = f"{SERVICE}/Tokenize", f"{SERVICE}/RenderChat"


class Words(tokens_grpc.TokenizationServiceServicer):
    """A text has as many tokens as characters; the model `slow` waits for the gate, `large` answers much."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.inside = self.cancelled = 0

    async def Tokenize(self, request: tokens.TokenizeRequest, context: Any) -> tokens.TokenizeResponse:
        self.inside += 1
        try:
            if request.model == "slow":
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.inside -= 1
        digest = "x" * (2 << 20) if request.model == "large" else current().request_id
        found = [tokenization_pb2.Encoding(ids=text.encode()) for text in request.texts]
        return tokens.TokenizeResponse(encodings=found, tokenizer_digest=digest)

    async def RenderChat(self, request: Any, context: Any) -> tokens.RenderChatResponse:
        return tokens.RenderChatResponse(text="by itself")


class Sender:
    """One stream, written and read message by message."""

    def __init__(self, channel: aio.Channel) -> None:
        rpc = channel.stream_stream(
            EXCHANGE,
            request_serializer=pb.ExchangeRequest.SerializeToString,
            response_deserializer=pb.ExchangeResponse.FromString,
        )
        self.stream = rpc()
        self.closing = False

    async def send(self, *items: pb.EnvelopeItem, cancelled: Sequence[int] = ()) -> None:
        await self.stream.write(pb.ExchangeRequest(items=items, cancelled_ids=cancelled))

    async def replies(self, count: int) -> list[pb.EnvelopeReply]:
        """The next `count` of them, in the order they came."""
        found: list[pb.EnvelopeReply] = []
        async with asyncio.timeout(20):
            while len(found) < count:
                message = await self.stream.read()
                assert message is not aio.EOF, f"the stream ended after {len(found)} of {count}"
                self.closing |= message.closing
                found.extend(message.replies)
        assert len(found) == count
        return found

    async def end(self) -> grpc.StatusCode:
        async with asyncio.timeout(20):
            return await self.stream.code()


@asynccontextmanager
async def service(**more: Any) -> AsyncIterator[tuple[aio.Channel, Words, Floor[ServerSettings]]]:
    words = Words()

    async def build(floor: Floor[ServerSettings]) -> None:
        floor.add(tokens_grpc.add_TokenizationServiceServicer_to_server, words)

    options = {"store": Path("unused"), "lame_duck_s": 0, "drain_s": 5} | more
    async with running(ServerSettings(**options), build) as (channel, floor):
        yield channel, words, floor


def item(id: int, text: str = "abc", model: str = "", path: str = TOKENIZE, **more: Any) -> pb.EnvelopeItem:
    request = tokens.TokenizeRequest(model=model, texts=[text]).SerializeToString()
    return pb.EnvelopeItem(id=id, method=path, request=request, **more)


def ids(reply: pb.EnvelopeReply) -> bytes:
    assert reply.code == 0, reply.message
    return bytes(tokens.TokenizeResponse.FromString(reply.reply).encodings[0].ids)


async def until(true: Any) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


async def test_a_slow_item_holds_nobody_up_and_its_neighbours_keep_their_names() -> None:
    async with service() as (channel, words, _):
        sender = Sender(channel)
        await sender.send(item(1, "slow one", "slow"), *(item(id, f"text {id}") for id in range(2, 40)))
        replies = await sender.replies(38)
        assert {reply.id: ids(reply) for reply in replies} == {n: f"text {n}".encode() for n in range(2, 40)}
        words.gate.set()
        (last,) = await sender.replies(1)
        assert (last.id, ids(last)) == (1, b"slow one")


async def test_metadata_reaches_the_handler_of_its_item_alone() -> None:
    async with service() as (channel, _, _floor):
        sender = Sender(channel)
        await sender.send(
            item(1, metadata=["x-request-id", "first"]), item(2, metadata=["x-request-id", "second"])
        )
        told = {reply.id: tokens.TokenizeResponse.FromString(reply.reply) for reply in await sender.replies(2)}
        assert (told[1].tokenizer_digest, told[2].tokenizer_digest) == ("first", "second")


async def test_a_cancelled_item_ends_its_work_and_gets_no_reply() -> None:
    async with service() as (channel, words, floor):
        sender = Sender(channel)
        await sender.send(item(1, model="slow"), item(2, model="slow"))
        await until(lambda: words.inside == 2)
        await sender.send(cancelled=[1, 77])
        await until(lambda: words.cancelled == 1)
        words.gate.set()
        assert [reply.id for reply in await sender.replies(1)] == [2]
        await sender.stream.done_writing()
        assert await sender.stream.read() is aio.EOF
        assert floor.admission.inside == 0


async def test_a_deadline_ends_an_item_and_not_its_neighbour() -> None:
    async with service() as (channel, words, _):
        sender = Sender(channel)
        await sender.send(item(1, model="slow", timeout_us=50_000), item(2, model="slow"))
        await until(lambda: words.cancelled == 1)
        assert words.inside == 1
        words.gate.set()
        assert [reply.id for reply in await sender.replies(1)] == [2]


async def test_what_may_not_travel_is_refused_by_item() -> None:
    async with service() as (channel, _, _floor):
        sender = Sender(channel)
        streaming = f"{SERVICE}/DetokenizeStream"
        paths = {1: CHAT, 2: "/no.such.Service/Call", 3: streaming, 4: "", 5: EXCHANGE}
        await sender.send(item(9), *(item(id, path=path) for id, path in paths.items()))
        codes = {reply.id: grpc_name(reply.code) for reply in await sender.replies(6)}
        unknown = dict.fromkeys((2, 4, 5), "UNIMPLEMENTED")
        assert codes == {9: "OK", 1: "PERMISSION_DENIED", 3: "PERMISSION_DENIED", **unknown}


def grpc_name(code: int) -> str:
    return next(one.name for one in grpc.StatusCode if one.value[0] == code)


async def test_admission_is_that_of_calls_by_themselves() -> None:
    async with service(queue_limit=3) as (channel, words, floor):
        sender = Sender(channel)
        await sender.send(*(item(id, model="slow") for id in range(1, 6)))
        refused = await sender.replies(2)
        assert {grpc_name(reply.code) for reply in refused} == {"RESOURCE_EXHAUSTED"}
        assert floor.admission.inside == 3
        words.gate.set()
        assert {reply.code for reply in await sender.replies(3)} == {0}


async def test_a_reply_that_no_message_holds_is_refused_and_the_others_come() -> None:
    async with service(max_message_mib=1) as (channel, _, _floor):
        sender = Sender(channel)
        await sender.send(item(1, model="large"), item(2))
        found = {reply.id: grpc_name(reply.code) for reply in await sender.replies(2)}
        assert found == {1: "RESOURCE_EXHAUSTED", 2: "OK"}


@pytest.mark.parametrize("late", [False, True])
async def test_a_service_that_leaves_answers_what_it_was_sent(late: bool) -> None:
    async with service() as (channel, words, floor):
        sender = Sender(channel)
        await sender.send(item(1, model="slow"))
        await until(lambda: words.inside == 1)
        closing = asyncio.create_task(floor.close())
        assert (await sender.stream.read()).closing
        if late:
            await sender.send(item(2, "sent before it was heard"))
            assert [reply.id for reply in await sender.replies(1)] == [2]
        await sender.stream.done_writing()
        words.gate.set()
        assert [reply.id for reply in await sender.replies(1)] == [1]
        assert await sender.end() is grpc.StatusCode.OK
        await asyncio.wait_for(closing, 4)


async def test_a_sender_that_is_gone_leaves_no_work_behind() -> None:
    async with service() as (channel, words, floor):
        sender = Sender(channel)
        await sender.send(*(item(id, model="slow") for id in range(1, 50)))
        await until(lambda: words.inside == 49)
        sender.stream.cancel()
        await until(lambda: words.cancelled == 49)
        assert floor.admission.inside == 0


async def test_old_streams_are_asked_to_close() -> None:
    async with service(max_connection_age_s=0.2) as (channel, _, _floor):
        sender = Sender(channel)
        await sender.send(item(1))
        await sender.replies(1)
        assert (await sender.stream.read()).closing


@pytest.mark.parametrize("how", ["twice", "many", "bytes"])
async def test_a_message_against_the_rules_ends_its_stream_and_no_other(how: str) -> None:
    async with service() as (channel, words, floor):
        other, sender = Sender(channel), channel.stream_stream(EXCHANGE)()
        await other.send(item(1, model="slow"))
        messages = {
            "twice": pb.ExchangeRequest(items=[item(1, model="slow"), item(1, model="slow")]).SerializeToString(),
            "many": pb.ExchangeRequest(items=[item(id) for id in range(1025)]).SerializeToString(),
            "bytes": b"\xff\xff\xff",
        }
        await sender.write(messages[how])
        assert await sender.code() is grpc.StatusCode.INVALID_ARGUMENT
        await until(lambda: words.inside == 1)
        words.gate.set()
        assert [reply.id for reply in await other.replies(1)] == [1]
        assert floor.admission.inside == 0


async def test_a_sender_that_reads_nothing_is_read_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MOST_INSIDE", 8)
    async with service() as (channel, words, _):
        sender = Sender(channel)
        for first in range(1, 60, 4):
            await sender.send(*(item(id, model="slow") for id in range(first, first + 4)))
        await until(lambda: words.inside == 8)
        await asyncio.sleep(0.05)
        assert words.inside == 8
        words.gate.set()
        assert {reply.id for reply in await sender.replies(60)} == set(range(1, 61))


async def test_random_messages_never_break_the_server() -> None:
    """Random bytes, messages cut short and wild ids beside a stream that must go on being answered."""
    chance = random.Random(7)
    async with service() as (channel, words, floor):
        words.gate.set()
        good = Sender(channel)
        for number in range(60):
            bad = channel.stream_stream(EXCHANGE)()
            for data in _wild(chance):
                try:
                    await bad.write(data)
                except (aio.AioRpcError, asyncio.InvalidStateError):
                    break
            bad.cancel()
            await good.send(item(number, f"text {number}"))
            (reply,) = await good.replies(1)
            assert ids(reply) == f"text {number}".encode()
        await until(lambda: floor.admission.inside == 0)


def _wild(chance: random.Random) -> list[bytes]:
    paths = [TOKENIZE, CHAT, "", "/", "\x00", "x" * 3000]
    words = ["x-request-id", "", "traceparent", "é" * 9]
    odd = [
        pb.EnvelopeItem(
            id=chance.choice([0, 1, 2**64 - 1]),
            method=chance.choice(paths),
            request=chance.randbytes(chance.randrange(40)),
            timeout_us=chance.choice([0, 1, 10**6, 2**64 - 1]),
            metadata=[chance.choice(words) for _ in range(chance.randrange(6))],
        )
        for _ in range(chance.randrange(5))
    ]
    whole = pb.ExchangeRequest(items=odd, cancelled_ids=[0, 5, 2**64 - 1]).SerializeToString()
    return [whole, whole[: chance.randrange(len(whole))], chance.randbytes(chance.randrange(64))][
        : chance.randrange(4)
    ]
