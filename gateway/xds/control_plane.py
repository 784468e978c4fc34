"""Follows what a control plane says of clusters' endpoints (xDS v3, aggregated). Routes no call."""

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Any

from google.rpc import code_pb2, status_pb2
from grpc import aio

from gateway.resolve import XDS
from gateway.xds.bootstrap import Bootstrap
from gateway.xds.endpoints import TYPE_URL, clusters
from maas.internal.v1 import xds_pb2
from services.runtime.channels import open_channel

PATH = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
# Between two streams.
PAUSE_S = 1.0

log = logging.getLogger("maas.xds")


class ControlPlane:
    """What it said last of each cluster; that stays while it is away."""

    def __init__(self, bootstrap: Bootstrap, names: Collection[str], changed: Callable[[], None]) -> None:
        """`names` of clusters, as in xds:///NAME; `changed` hears of every news."""
        self._bootstrap, self._names, self._changed = bootstrap, sorted(names), changed
        self._known: dict[str, tuple[str, ...]] = {}
        self._told = {name: asyncio.Event() for name in names}
        self._version = ""

    async def resolve(self, address: str) -> tuple[str, ...]:
        """The processes of xds:///NAME, once they are known."""
        name = address.removeprefix(XDS)
        await self._told[name].wait()
        return self._known[name]

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            async with open_channel(self._bootstrap.server, credentials=self._bootstrap.credentials) as channel:
                try:
                    await self._follow(channel)
                except (aio.AioRpcError, asyncio.InvalidStateError) as error:
                    # InvalidStateError: it ended while its last answer was being judged.
                    log.warning("the control plane is away", extra={"error": str(error)[:200]})
            await asyncio.sleep(PAUSE_S)

    async def _follow(self, channel: aio.Channel) -> None:
        """Asks for the clusters, then takes or refuses each answer, until the stream ends."""
        stream: Any = channel.stream_stream(
            PATH, xds_pb2.DiscoveryRequest.SerializeToString, xds_pb2.DiscoveryResponse.FromString
        )(wait_for_ready=True)
        await stream.write(self._request(node=self._bootstrap.node))
        while (reply := await stream.read()) is not aio.EOF:
            await stream.write(self._judged(reply))

    def _judged(self, reply: xds_pb2.DiscoveryResponse) -> xds_pb2.DiscoveryRequest:
        """The answer to an answer: it was taken whole, or nothing of it was."""
        try:
            found = clusters(reply)
        except ValueError as error:
            log.error("the control plane's answer was refused", extra={"error": str(error)})
            wrong = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message=str(error))
            return self._request(response_nonce=reply.nonce, error_detail=wrong)
        self._version = reply.version_info
        for name in found.keys() & self._told.keys():
            self._known[name] = found[name]
            self._told[name].set()
        self._changed()
        return self._request(response_nonce=reply.nonce)

    def _request(self, **more: Any) -> xds_pb2.DiscoveryRequest:
        return xds_pb2.DiscoveryRequest(
            resource_names=self._names, type_url=TYPE_URL, version_info=self._version, **more
        )
