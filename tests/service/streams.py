"""Replicas of the generation service that share a Valkey, and streams that break."""

import subprocess
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

from google.rpc import error_details_pb2
from grpc import aio

from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1 import generation_service_pb2 as service_pb
from maas.generation.v1.generation_service_pb2_grpc import GenerationServiceStub as Stub
from services.generation.__main__ import build
from services.generation.settings import GenerationSettings
from services.runtime.floor import Floor
from services.runtime.status import status_of
from services.runtime.store.store import ModelStore
from tests import harness
from tests.harness import running
from tests.service.generation import TEXT, Ask, free
from tests.valkey import PATIENT

PLAIN = Ask(text=TEXT, sampling=pb.Sampling(temperature=1.5), stopping=free(60))

Message = service_pb.GenerateStreamResponse


@asynccontextmanager
async def replica(
    store: ModelStore, redis_url: str, **overrides: Any
) -> AsyncIterator[tuple[Stub, Floor[GenerationSettings]]]:
    values = {
        **{"port": 0, "metrics_port": 0, "lame_duck_s": 0, "drain_s": 5},
        **{"generate_model": "tiny", "kv_cache_mib": 16, "redis_url": redis_url, **PATIENT},
    }
    async with running(GenerationSettings(store=store.root, **{**values, **overrides}), build) as (channel, floor):
        yield Stub(channel), floor


def process(store: ModelStore, redis_url: str) -> AbstractContextManager[tuple[subprocess.Popen[str], str]]:
    """A replica in a process of its own, once it serves, and its address."""
    flags = [f"--store={store.root}", f"--redis-url={redis_url}", "--generate-model=tiny", "--kv-cache-mib=16"]
    patient = [f"--{name.replace('_', '-')}={value}" for name, value in PATIENT.items()]
    return harness.process("generation", *flags, *patient)


def resuming(stream_id: str, after: int) -> service_pb.GenerateStreamRequest:
    return service_pb.GenerateStreamRequest(resume=pb.Resume(stream_id=stream_id, after_sequence_number=after))


async def resumed(stub: Stub, stream_id: str, after: int) -> list[Message]:
    return [message async for message in stub.GenerateStream(resuming(stream_id, after))]


async def broken(stub: Stub, request: service_pb.GenerateStreamRequest, after: int) -> list[Message]:
    """The first messages of a stream whose reader then leaves; fewer, if it has fewer."""
    call: aio.UnaryStreamCall[Any, Message] = stub.GenerateStream(request)
    found: list[Message] = []
    while len(found) < after and (message := await call.read()) is not aio.EOF:
        found.append(message)
    call.cancel()
    return found


def reason(error: aio.AioRpcError) -> tuple[str, dict[str, str]]:
    """An error's reason, and what it says besides."""
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status_of(error).details)
    return info.reason, dict(info.metadata)


async def read_on(call: Any, found: list[Message]) -> None:
    """What is left of a stream, added as it comes."""
    while (message := await call.read()) is not aio.EOF:
        found.append(message)


def whole(messages: list[Message]) -> dict[int, pb.Completion]:
    """What the messages of one stream, numbered from 1, join to."""
    assert [message.sequence_number for message in messages] == list(range(1, len(messages) + 1))
    found: dict[int, pb.Completion] = {}
    for message in messages:
        one = found.setdefault(message.index, pb.Completion(index=message.index))
        assert not one.finish_reason
        one.text += message.text_delta
        one.token_ids.extend(message.token_ids)
        one.logprobs.extend(message.logprobs)
        one.finish_reason = message.finish_reason
        one.cumulative_logprob = message.cumulative_logprob
        if message.HasField("stop_match"):
            one.stop_match.CopyFrom(message.stop_match)
    assert [message.HasField("usage") for message in messages] == [False] * (len(messages) - 1) + [True]
    return found
