"""Calls with a common beginning, over two replicas: they find what one replica's prefix cache would hold."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import torch
from grpc import aio

from cli.ports import any_free
from gateway.__main__ import build as build_gateway
from gateway.settings import GatewaySettings
from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1.generation_service_pb2_grpc import GenerationServiceStub as Stub
from services.generation.__main__ import build
from services.generation.settings import GenerationSettings
from services.runtime.store.store import ModelStore
from tests.harness import running
from tests.service.generation import NAMED, Ask, publish

NOWHERE = {f"{area}_address": "" for area in ("tokenization", "vision", "sequence")}
FLOOR = {"port": 0, "metrics_port": 0, "lame_duck_s": 0, "drain_s": 5}
FRESH = (("cache-control", "no-store"),)


def asked(salt: str) -> list[Ask]:
    """Three chats under one system message, three groups of prompts that begin with the same 64 ids."""
    more: dict[str, Any] = {"stopping": pb.Stopping(max_tokens=1, ignore_eos=True), "cache_salt": salt}
    system = {"role": "system", "content": "a quick brown fox " * 5}
    chats = [{"messages": [system, {"role": "user", "content": word}]} for word in ("jumps", "over", "the dog")]
    ids = [
        [*range(first, first + 64), *range(last, last + 9)] for last in (1, 200, 300) for first in (50, 90, 130)
    ]
    return [
        *(Ask(chat=chat, **more) for chat in chats),
        *(Ask(token_ids={"values": values}, **more) for values in ids),
    ]


async def cached(channel: aio.Channel, salt: str) -> list[int]:
    """Prompt tokens that each call found in a cache."""
    replies = [await Stub(channel).Generate(one, metadata=FRESH) for one in asked(salt)]
    return [reply.usage.cached_prompt_tokens for reply in replies]


async def test_two_replicas_find_what_one_would(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    store = ModelStore(tmp_path)
    publish(store, "tiny", **NAMED)
    async with AsyncExitStack() as stack:
        ports = [any_free("127.0.0.1") for _ in range(2)]
        for port in ports:
            chosen = FLOOR | {"port": port, "generate_model": "tiny", "kv_cache_mib": 16}
            settings = GenerationSettings(store=store.root, **chosen)
            alone, _ = await stack.enter_async_context(running(settings, build))
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
        both = GatewaySettings(generation_address=addresses, start_wait_s=5, **FLOOR, **NOWHERE)
        channel, _ = await stack.enter_async_context(running(both, build_gateway))
        lone = await cached(alone, "alone")
        assert [tokens > 0 for tokens in lone] == [False, True, True, *[False] * 3, *[True] * 6]
        assert await cached(channel, "both") == lone
