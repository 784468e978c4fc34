"""Slow replicas beside quick ones: whom it helps to ask twice, how often that is done, and for what never."""

import asyncio
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode, aio

from gateway.__main__ import build
from gateway.overload.latency import LEAST_TAIL
from maas.gateway.v1.gateway_service_pb2 import GetStatusRequest
from maas.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from maas.sequence.v1.sequence_service_pb2 import StepSessionRequest, TransduceRequest
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub
from maas.tokenization.v1.tokenization_service_pb2 import CountTokensRequest
from tests.harness import running
from tests.suite.gateway_fakes import behind, gateway, settings
from tests.suite.test_gateway_stopped import process

NO_STORE = (("cache-control", "no-store"),)
COUNT_TOKENS = "/maas.tokenization.v1.TokenizationService/CountTokens"
# Less than it takes to notice that a replica is stopped.
DEADLINE_S = 1.5


def transduce(channel: aio.Channel, timeout: float = 10) -> Any:
    return SequenceServiceStub(channel).Transduce(
        TransduceRequest(texts=["a"]), metadata=NO_STORE, timeout=timeout
    )


async def warm(channel: aio.Channel) -> None:
    """Enough answers for a 95th percentile."""
    for _ in range(2 * LEAST_TAIL):
        await transduce(channel)


async def load(channel: aio.Channel, service: str) -> Any:
    status = await GatewayServiceStub(channel).GetStatus(GetStatusRequest())
    return next(one for one in status.loads if one.service == service)


async def test_a_replica_that_hangs_costs_its_callers_a_moment() -> None:
    services = behind("sequence"), behind("sequence")
    async with gateway(*services) as (channel, _):
        await warm(channel)
        before = await load(channel, "sequence")
        services[0].gate.clear()
        for _ in range(20):
            assert (await transduce(channel)).results
        after = await load(channel, "sequence")
        assert after.hedges_won > before.hedges_won
        # Each call that went to the one that hangs was taken back from it.
        async with asyncio.timeout(5):
            while services[0].cancelled["Transduce"] < after.hedges_won - before.hedges_won:
                await asyncio.sleep(0.01)
        services[0].gate.set()


async def test_switched_off_a_call_waits_for_its_replica() -> None:
    services = behind("sequence"), behind("sequence")
    async with gateway(*services, hedge=False) as (channel, _):
        await warm(channel)
        services[0].gate.clear()
        codes = [await transduce(channel, timeout=0.3).code() for _ in range(2)]
        assert StatusCode.DEADLINE_EXCEEDED in codes and (await load(channel, "sequence")).hedges == 0
        services[0].gate.set()


async def test_a_step_of_a_session_is_sent_once() -> None:
    services = behind("sequence"), behind("sequence")
    async with gateway(*services) as (channel, _):
        stub = SequenceServiceStub(channel)
        for number in range(2 * LEAST_TAIL):
            await stub.StepSession(StepSessionRequest(session_id=f"s{number}"))
        for service in services:
            service.gate.clear()
        sent = sum(service.calls["StepSession"] for service in services)
        call = stub.StepSession(StepSessionRequest(session_id="slow"))
        await asyncio.sleep(0.3)
        assert sum(service.calls["StepSession"] for service in services) == sent + 1
        for service in services:
            service.gate.set()
        assert await call


async def test_one_replica_is_never_asked_twice() -> None:
    service = behind("sequence")
    async with gateway(service) as (channel, _):
        await warm(channel)
        service.gate.clear()
        call = transduce(channel)
        await asyncio.sleep(0.2)
        assert service.calls["Transduce"] == 2 * LEAST_TAIL + 1
        service.gate.set()
        assert await call and (await load(channel, "sequence")).hedges == 0


@pytest.mark.slow
@pytest.mark.parametrize("hedge", [True, False])
async def test_a_stopped_replica(tmp_path: Path, hedge: bool) -> None:
    """SIGSTOP, and deadlines that end before anybody can know: only who asks twice answers all of them."""
    body = CountTokensRequest(texts=["x"]).SerializeToString()
    with process("one", tmp_path / "log") as (one, first), process("two", tmp_path / "log") as (_, second):
        chosen = settings({"tokenization": f"{first},{second}"}, hedge=hedge, coalesce=False)
        async with running(chosen, build) as (channel, _):
            call = channel.unary_unary(COUNT_TOKENS)
            async with asyncio.timeout(20):
                seen: Counter[bytes] = Counter()
                while len(seen) < 2 or seen.total() < 2 * LEAST_TAIL:
                    seen[await call(body, metadata=NO_STORE)] += 1
            one.send_signal(signal.SIGSTOP)
            calls = [call(body, metadata=NO_STORE, timeout=DEADLINE_S) for _ in range(4)]
            ends = Counter([await one.code() for one in calls])
            one.send_signal(signal.SIGCONT)
            load_now = await load(channel, "tokenization")
    assert ends[StatusCode.OK] == 4 if hedge else ends[StatusCode.DEADLINE_EXCEEDED] > 0
    assert (load_now.hedges_won > 0) == hedge
