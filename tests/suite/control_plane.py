"""A control plane for tests: aggregated discovery (xDS v3) in Envoy's own messages, told what to say."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from envoy_data_plane.envoy.config.core.v3 import Address, HealthStatus, SocketAddress
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse
from envoy_data_plane.google.protobuf import Any as Packed
from grpc import aio

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
TYPE_URL = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
Places = Mapping[str, HealthStatus]


@dataclass
class ControlPlane:
    """`requests` are those that came, first to last; `says` sends to every stream there is and will be."""

    port: int = 0
    # Keeps the port while nobody listens on it.
    held: socket.socket = field(default_factory=socket.socket)
    requests: list[DiscoveryRequest] = field(default_factory=list)
    _reply: DiscoveryResponse | None = None
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _count: int = 0

    def __del__(self) -> None:
        self.held.close()

    async def says(self, *resources: tuple[str, bytes]) -> str:
        """Its version. `resources`: type and bytes of each."""
        self._count += 1
        packed = [Packed(type_url=kind, value=value) for kind, value in resources]
        told = f"v{self._count}", f"n{self._count}"
        self._reply = DiscoveryResponse(version_info=told[0], nonce=told[1], resources=packed, type_url=TYPE_URL)
        async with self._news:
            self._news.notify_all()
        return told[0]

    async def places(self, cluster: str, *priorities: Places) -> str:
        """Says where a cluster runs: ip:port and health, by priority."""
        return await self.says((TYPE_URL, bytes(assignment(cluster, priorities))))

    async def stream(self, requests: AsyncIterator[bytes], context: aio.ServicerContext) -> AsyncIterator[bytes]:
        self.requests.append(DiscoveryRequest.parse(await anext(requests)))
        reading = asyncio.create_task(self._read(requests))
        told = None
        try:
            while True:
                async with self._news:
                    await self._news.wait_for(lambda: self._reply is not told)  # noqa: B023
                told = self._reply
                yield bytes(told)
        finally:
            reading.cancel()

    async def _read(self, requests: AsyncIterator[bytes]) -> None:
        async for request in requests:
            self.requests.append(DiscoveryRequest.parse(request))


def assignment(cluster: str, priorities: Sequence[Places]) -> ClusterLoadAssignment:
    def endpoint(place: str, health: HealthStatus) -> LbEndpoint:
        host, _, port = place.rpartition(":")
        address = Address(socket_address=SocketAddress(address=host, port_value=int(port)))
        return LbEndpoint(endpoint=Endpoint(address=address), health_status=health)

    localities = [
        LocalityLbEndpoints(lb_endpoints=[endpoint(*one) for one in places.items()], priority=priority)
        for priority, places in enumerate(priorities)
    ]
    return ClusterLoadAssignment(cluster_name=cluster, endpoints=localities)


@asynccontextmanager
async def serving(plane: ControlPlane) -> AsyncIterator[ControlPlane]:
    """On the port that it has, or on a free one, which it has from then on: nobody gets it meanwhile."""
    if not plane.port:
        plane.held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        plane.held.bind(("127.0.0.1", 0))
        plane.port = plane.held.getsockname()[1]
    server = aio.server()
    handlers = {"StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(plane.stream)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"127.0.0.1:{plane.port}")
    await server.start()
    try:
        yield plane
    finally:
        await server.stop(None)
