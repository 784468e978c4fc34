"""Keeps the replicas of a service in step with its addresses, and each one's health watched. Routes no call."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Any

from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.backends import SERVING, UNREACHABLE, Backend, Replica
from gateway.envelope import Envelope
from gateway.resolve import at_first, is_name, resolve

# Names are asked again this often, and sooner when a replica is lost, but not without a pause.
RESOLVE_EVERY_S = 5.0
RESOLVE_PAUSE_S = 0.5
# The longest wait for DNS, and for a new replica to say whether it serves.
WITHIN_S = 5.0
# Between two watches of a replica that is gone; the channel's own reconnect backoff (2 s at most) comes on top.
WATCH_PAUSE_S = 0.1

Resolve = Callable[[str], Awaitable[Collection[str]]]
Open = Callable[[str], aio.Channel]


class Members:
    """One replica a process: behind one name there may be several, each with a health of its own.

    A process that leaves its name gets no more calls; those it has may end before its channel closes.
    """

    def __init__(
        self,
        backend: Backend,
        addresses: Collection[str],
        channel: Open,
        resolve: Resolve = resolve,
        coalesce: bool = False,
    ) -> None:
        """`channel` opens one to an address; `coalesce`: short calls that wait travel together."""
        self._backend, self._addresses = backend, tuple(addresses)
        self._channel, self._resolve, self._coalesce = channel, resolve, coalesce
        self._found: dict[str, Collection[str]] = {}
        self._watches: dict[Replica, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        # To be replaced by others at the same address.
        self._stale: set[Replica] = set()
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Until cancelled; at once over where every address stands for itself."""
        await self.refresh()
        while any(map(is_name, self._addresses)):
            await asyncio.sleep(RESOLVE_PAUSE_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(RESOLVE_EVERY_S):
                    await self._backend.lost.wait()
            self._backend.lost.clear()
            await self.refresh()

    async def refresh(self) -> None:
        """Asks for all names; who is new is watched, who is gone retires once the new could say they serve."""
        async with self._turn:
            await self._refresh()

    async def renew(self) -> None:
        """Connects to every replica anew, as with another certificate; calls under way end where they are."""
        self._stale.update(self._backend.replicas)
        await self.refresh()

    async def _refresh(self) -> None:
        asked = await asyncio.gather(*map(self._processes, self._addresses))
        replicas = self._backend.replicas
        before = {replica.address: replica for replica in replicas if replica not in self._stale}
        wanted = dict.fromkeys(address for addresses in asked for address in addresses)
        members = [before.get(address) or self._join(address) for address in wanted]
        gone = [replica for replica in replicas if replica not in members]
        self._backend.consist_of([*members, *gone])
        if gone:
            await _told(members)
            self._backend.consist_of(members)
            for replica in gone:
                self._leave(replica)

    async def close(self) -> None:
        """Ends the watches and the channels, whatever they carry."""
        tasks = [*self._watches.values(), *self._leaving]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for replica in self._watches:
            await replica.close()

    async def _processes(self, address: str) -> Collection[str]:
        """What an address stands for; while that cannot be told what it stood for last, or does at first."""
        # ValueError: a name that DNS could not even be asked for.
        with suppress(OSError, ValueError):
            async with asyncio.timeout(WITHIN_S):
                self._found[address] = await self._resolve(address)
        return self._found.get(address, at_first(address))

    def _join(self, address: str) -> Replica:
        channel = self._channel(address)
        replica = Replica(address, channel, envelope=Envelope(channel) if self._coalesce else None)
        self._watches[replica] = asyncio.create_task(watch(self._backend, replica))
        return replica

    def _leave(self, replica: Replica) -> None:
        task = asyncio.create_task(self._retire(replica))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _retire(self, replica: Replica) -> None:
        self._watches[replica].cancel()
        await replica.free.wait()
        await replica.close()
        self._stale.discard(replica)
        del self._watches[replica]


async def _told(replicas: Collection[Replica]) -> None:
    """Returns once each said whether it serves, or should have by now."""
    with suppress(TimeoutError):
        async with asyncio.timeout(WITHIN_S):
            for replica in replicas:
                await replica.known.wait()


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
