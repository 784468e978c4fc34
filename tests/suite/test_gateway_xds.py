"""Replicas as a control plane tells them: who comes, who leaves, what is refused, and what stays without it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from envoy_data_plane.envoy.config.core.v3 import HealthStatus
from grpc import aio

from gateway.__main__ import build
from gateway.settings import GatewaySettings
from maas.gateway.v1.gateway_service_pb2 import GetStatusRequest
from maas.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from maas.vision.v1.vision_service_pb2 import ClassifyRequest
from maas.vision.v1.vision_service_pb2_grpc import VisionServiceStub
from tests.harness import running
from tests.suite.control_plane import TYPE_URL, ControlPlane, assignment, serving
from tests.suite.gateway_fakes import Behind, behind, settings, started

UP, DRAINING, UNKNOWN = HealthStatus.HEALTHY, HealthStatus.DRAINING, HealthStatus.UNKNOWN
FRESH = (("cache-control", "no-store"),)


def bootstrap(folder: Path, port: int) -> str:
    """As gRPC's other clients have it."""
    file = folder / "bootstrap.json"
    server = {
        "server_uri": f"127.0.0.1:{port}",
        "channel_creds": [{"type": "google_default"}, {"type": "insecure"}],
        "server_features": ["xds_v3"],
    }
    node = {"id": "gateway-1", "cluster": "maas", "metadata": {"a": "b"}, "locality": {"zone": "z"}, "other": 1}
    file.write_text(json.dumps({"xds_servers": [server], "node": node, "authorities": {}}))
    return str(file)


@asynccontextmanager
async def behind_a_plane(
    plane: ControlPlane, folder: Path, count: int
) -> AsyncIterator[tuple[aio.Channel, list[str], list[Behind]]]:
    """A gateway that asks `plane` for the vision service, and so many processes of that."""
    services = [behind("vision") for _ in range(count)]
    async with started(*services) as found:
        chosen = settings({"vision": "xds:///seeing"}, xds_bootstrap=bootstrap(folder, plane.port))
        async with running(chosen.model_copy(update={"start_wait_s": 0}), build) as (channel, _):
            yield channel, [one.address for one in found], services


async def call(channel: aio.Channel) -> Any:
    request = ClassifyRequest(images=[{"encoded": b"1"}])
    return await VisionServiceStub(channel).Classify(request, metadata=FRESH, timeout=10)


async def healthy(channel: aio.Channel, *addresses: str) -> None:
    """Returns once just these serve."""
    async with asyncio.timeout(15):
        while True:
            told = await GatewayServiceStub(channel).GetStatus(GetStatusRequest())
            if [(one.address, one.health) for one in told.backends] == [(one, "SERVING") for one in addresses]:
                return
            await asyncio.sleep(0.02)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


async def test_who_comes_and_who_leaves(tmp_path: Path) -> None:
    async with serving(ControlPlane()) as plane, behind_a_plane(plane, tmp_path, 3) as (channel, places, services):
        places, services = zip(*sorted(zip(places, services, strict=True), key=lambda pair: pair[0]), strict=True)
        one, two, three = places
        await plane.places("seeing", {one: UP, two: UNKNOWN}, {three: UP})
        await healthy(channel, one, two)
        for _ in range(4):
            await call(channel)
        assert [service.calls["Classify"] for service in services] == [2, 2, 0]
        stop = asyncio.Event()

        async def load() -> None:
            while not stop.is_set():
                await call(channel)

        working = [asyncio.create_task(load()) for _ in range(3)]
        await plane.places("seeing", {one: DRAINING, two: UP, three: UP})
        await healthy(channel, two, three)
        await plane.places("seeing", {one: DRAINING}, {three: UP})
        await healthy(channel, three)
        stop.set()
        await asyncio.gather(*working)
        before = [service.calls["Classify"] for service in services]
        await call(channel)
        assert [service.calls["Classify"] for service in services] == [before[0], before[1], before[2] + 1]
    first, *later = plane.requests
    assert (first.node.id, first.node.locality.zone) == ("gateway-1", "z")
    assert (first.resource_names, first.version_info, first.response_nonce) == (["seeing"], "", "")
    assert [(one.version_info, one.response_nonce) for one in later] == [("v1", "n1"), ("v2", "n2"), ("v3", "n3")]
    assert all(one.error_detail is None and one.resource_names == ["seeing"] for one in later)


async def test_what_cannot_be_read_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async with serving(ControlPlane()) as plane, behind_a_plane(plane, tmp_path, 1) as (channel, places, _):
        await plane.places("seeing", {places[0]: UP})
        await healthy(channel, places[0])
        for bad in (("type.googleapis.com/other", b""), (TYPE_URL, b"\xff"), (TYPE_URL, nowhere())):
            await plane.says(bad)
            await until(lambda: plane.requests[-1].error_detail)
            refused = plane.requests.pop()
            assert (refused.version_info, refused.error_detail.code) == ("v1", 3) and refused.error_detail.message
        await call(channel)
        await healthy(channel, places[0])


async def test_without_the_control_plane_all_stays_and_it_is_asked_again(tmp_path: Path) -> None:
    plane = ControlPlane()
    async with serving(plane):
        pass
    async with behind_a_plane(plane, tmp_path, 2) as (channel, places, _):
        with pytest.raises(aio.AioRpcError) as caught:
            await call(channel)
        assert "vision is unavailable" in str(caught.value.details())
        async with serving(plane):
            await plane.places("seeing", {places[0]: UP})
            await healthy(channel, places[0])
        await call(channel)
        async with serving(plane):
            await plane.places("seeing", {places[1]: UP})
            await healthy(channel, places[1])
        assert [one.node.id for one in plane.requests if one.node is not None] == ["gateway-1"] * 2


def nowhere() -> bytes:
    """An assignment whose endpoint has no port."""
    return bytes(assignment("seeing", [{"10.0.0.1:0": UP}]))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is no xDS bootstrap file: JSONDecodeError"),
        ("{}", "is no xDS bootstrap file: KeyError"),
        ('{"xds_servers": []}', "is no xDS bootstrap file: IndexError"),
        ('{"xds_servers": [{"server_uri": "a:1"}]}', "channel_creds offers none"),
        ('{"xds_servers": [{"server_uri": "a:1", "channel_creds": [{"type": "x"}]}]}', "channel_creds offers x"),
    ],
)
def test_a_bad_file_stops_the_start(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "bootstrap.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=told):
        GatewaySettings(vision_address="xds:///seeing", xds_bootstrap=str(file))


def test_a_cluster_without_a_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="xds:///seeing needs MAAS_XDS_BOOTSTRAP"):
        GatewaySettings(vision_address="127.0.0.1:1, xds:///seeing")
    with pytest.raises(ValueError, match="No such file"):
        GatewaySettings(vision_address="xds:///seeing", xds_bootstrap=str(tmp_path / "none"))
