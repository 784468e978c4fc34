"""Replicas that fail though they say they serve: how few calls that costs."""

from collections import Counter
from io import StringIO

import pytest
from grpc import StatusCode, aio
from rich.console import Console

from cli import replicas
from cli.ports import any_free
from gateway.__main__ import build
from gateway.backends import EJECTED
from gateway.standing import FAULTS_IN_A_ROW
from maas.gateway.v1.gateway_service_pb2 import GetStatusRequest
from maas.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from maas.vision.v1.vision_service_pb2 import ClassifyRequest
from maas.vision.v1.vision_service_pb2_grpc import VisionServiceStub
from services.runtime.errors import InvalidInput, Overloaded, ServiceError, Unavailable
from tests.harness import running
from tests.suite.gateway_fakes import behind, gateway, settings, started

FRESH = (("cache-control", "no-store"),)


async def ends(channel: aio.Channel, count: int) -> Counter[StatusCode]:
    """How `count` calls end, one after another."""
    found: Counter[StatusCode] = Counter()
    for _ in range(count):
        call = VisionServiceStub(channel).Classify(ClassifyRequest(images=[{"encoded": b"x"}]), metadata=FRESH)
        found[await call.code()] += 1
    return found


async def healths(channel: aio.Channel) -> list[str]:
    status = await GatewayServiceStub(channel).GetStatus(GetStatusRequest())
    return [one.health for one in status.backends]


async def test_one_that_keeps_failing_is_left_out_and_shown() -> None:
    broken, sound = behind("vision"), behind("vision")
    broken.failure = RuntimeError("a broken disk")
    async with gateway(broken, sound) as (channel, _):
        found = await ends(channel, 40)
        assert found == {StatusCode.INTERNAL: FAULTS_IN_A_ROW, StatusCode.OK: 40 - FAULTS_IN_A_ROW}
        assert await healths(channel) == [EJECTED, "SERVING"]


@pytest.mark.parametrize(
    ("error", "refused"), [(InvalidInput("images", "too dark"), 20), (Overloaded("full", retry_after_s=9), 1)]
)
async def test_one_that_refuses_for_a_reason_stays(error: ServiceError, refused: int) -> None:
    """One that has too much to do is spared for as long as it asks, and not called faulty."""
    strict, other = behind("vision"), behind("vision")
    strict.failure = error
    async with gateway(strict, other) as (channel, _):
        assert (await ends(channel, 40))[StatusCode.OK] == 40 - refused
        assert await healths(channel) == ["SERVING", "SERVING"]


async def test_a_call_finds_the_one_of_three_that_can() -> None:
    services = [behind("vision") for _ in range(3)]
    for service in services[:2]:
        service.failure = Unavailable("loading", retry_after_s=60)
    async with gateway(*services) as (channel, _):
        assert await ends(channel, 6) == {StatusCode.OK: 6}
        assert services[2].calls["Classify"] == 6 and all(one.calls["Classify"] for one in services)
        assert await healths(channel) == ["SERVING"] * 3


async def test_the_command_line_shows_every_replica() -> None:
    broken, sound = behind("vision"), behind("vision")
    broken.failure = RuntimeError("a broken disk")
    async with started(broken, sound) as found:
        port = any_free("127.0.0.1")
        addresses = ",".join(one.address for one in found)
        chosen = settings({"vision": addresses}).model_copy(update={"port": port})
        async with running(chosen, build) as (channel, _):
            await ends(channel, 12)
            rows = await replicas.behind(f"127.0.0.1:{port}")
    assert rows is not None
    told = [(row["address"], row["health"], row["in_flight"], row["calls"], row["failures"]) for row in rows]
    assert told == [(found[0].address, EJECTED, 0, 5, 5), (found[1].address, "SERVING", 0, 7, 0)]
    console = Console(width=120, file=StringIO())
    console.print(replicas.shown(rows))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[1].split() == ["vision", found[0].address, "ejected", "100%", "0", "5", "5"]
    assert await replicas.behind(f"127.0.0.1:{port}") is None


async def test_a_fresh_replica_says_how_much_it_takes() -> None:
    async with gateway(behind("vision")) as (channel, _):
        status = await GatewayServiceStub(channel).GetStatus(GetStatusRequest())
        assert 0.1 <= status.backends[0].share < 1
