"""Replicas of the services: their channels, their health, and which one takes the next call."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.relay import unreachable
from services.runtime.channels import open_channel

SERVING, UNREACHABLE, CONNECTING = "SERVING", "UNREACHABLE", "CONNECTING"
# Between two watches of a replica that is gone; the channel's own reconnect backoff (2 s at most) comes on top.
WATCH_PAUSE_S = 0.1


@dataclass(slots=True)
class Replica:
    """One process that answers for a service."""

    address: str
    channel: aio.Channel
    health: str = CONNECTING
    in_flight: int = 0
    calls: int = 0
    failures: int = 0
    # Told by the watch at least once.
    known: asyncio.Event = field(default_factory=asyncio.Event)

    @contextmanager
    def carrying(self) -> Iterator[aio.Channel]:
        """Counts a call for as long as it lasts."""
        self.calls += 1
        self.in_flight += 1
        try:
            yield self.channel
        finally:
            self.in_flight -= 1


class Backend:
    """A service: the replicas it has and the choice between them."""

    def __init__(self, name: str, replicas: Collection[Replica], on_change: Callable[["Backend"], None]) -> None:
        self.name, self.replicas = name, tuple(replicas)
        self._on_change = on_change
        self._up = asyncio.Event()

    @property
    def healthy(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.health == SERVING]

    def pick(self, tried: Collection[Replica] = ()) -> Replica:
        """The healthy replica with the least in flight. Raises Unavailable naming the service if there is none."""
        fit = [replica for replica in self.healthy if replica not in tried]
        if not fit:
            states = ", ".join(f"{r.address} {r.health}" for r in self.replicas) or "no address is set"
            raise unreachable(self.name, states)
        # Fewest calls breaks ties, so that idle replicas take turns.
        return min(fit, key=lambda replica: (replica.in_flight, replica.calls))

    def another(self, tried: Collection[Replica]) -> bool:
        """Whether a healthy replica is left that was not tried."""
        return any(replica not in tried for replica in self.healthy)

    async def up(self) -> None:
        """Returns once a replica is healthy."""
        await self._up.wait()

    def told(self, replica: Replica, health: str) -> None:
        """Takes news of a replica's health."""
        changed = replica.health != health
        replica.health = health
        replica.known.set()
        if self.healthy:
            self._up.set()
        else:
            self._up.clear()
        if changed:
            self._on_change(self)


class Backends(Mapping[str, Backend]):
    """Every service by name; watches the health of all replicas while it is open."""

    def __init__(
        self,
        addresses: Mapping[str, Collection[str]],
        max_message_bytes: int,
        on_change: Callable[[Backend], None] = lambda _: None,
    ) -> None:
        def replica(address: str) -> Replica:
            # The choice of another replica is made here, so core must not retry on its own.
            return Replica(address, open_channel(address, max_message_bytes, retry=False))

        self._backends = {
            name: Backend(name, [replica(address) for address in found], on_change)
            for name, found in addresses.items()
        }
        self._watches: list[asyncio.Task[None]] = []

    def __getitem__(self, name: str) -> Backend:
        return self._backends[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._backends)

    def __len__(self) -> int:
        return len(self._backends)

    def start(self) -> None:
        """Begins to watch."""
        pairs = [(backend, replica) for backend in self.values() for replica in backend.replicas]
        self._watches = [asyncio.create_task(watch(backend, replica)) for backend, replica in pairs]

    async def close(self) -> None:
        """Ends the watches and the channels."""
        for task in self._watches:
            task.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        for backend in self.values():
            for replica in backend.replicas:
                await replica.channel.close()


async def watch(backend: Backend, replica: Replica) -> None:
    """Follows one replica's overall health until cancelled; a replica that returns is used again."""
    stub = health_pb2_grpc.HealthStub(replica.channel)
    while True:
        try:
            news: Any = stub.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=replica.known.is_set())
            async for reply in news:
                backend.told(replica, health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))
            backend.told(replica, UNREACHABLE)
        except aio.AioRpcError as error:
            # A server without health checking counts as healthy while it can be reached.
            backend.told(replica, SERVING if error.code() is StatusCode.UNIMPLEMENTED else UNREACHABLE)
        await asyncio.sleep(WATCH_PAUSE_S)
