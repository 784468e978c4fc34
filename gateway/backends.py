"""Replicas of the services: their channels, their health, and which one takes the next call."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from grpc import aio

from gateway import affinity
from gateway.attempts import Attempts
from gateway.envelope import Envelope
from gateway.overload.bounds import Bounds
from gateway.overload.gate import Gate
from gateway.relay import unreachable
from gateway.retry_budget import RetryBudget
from gateway.standing import Standing
from gateway.uptime import Uptime

SERVING, UNREACHABLE, CONNECTING = "SERVING", "UNREACHABLE", "CONNECTING"
EJECTED = "EJECTED"  # serves by its own word, but keeps failing


@dataclass(slots=True, eq=False)
class Replica:
    """One process that answers for a service."""

    address: str
    channel: aio.Channel
    health: str = CONNECTING
    in_flight: int = 0
    calls: int = 0
    failures: int = 0
    # Refused for its own load.
    sheds: int = 0
    # Monotonic seconds of the last call's start.
    used_at: float = 0.0
    standing: Standing = field(default_factory=Standing)
    # Takes short calls together; None = each goes by itself.
    envelope: Envelope | None = None
    # Told by the watch at least once.
    known: asyncio.Event = field(default_factory=asyncio.Event)
    # Set while nobody holds the channel.
    free: asyncio.Event = field(default_factory=asyncio.Event)
    _holders: int = 0

    def __post_init__(self) -> None:
        self.free.set()

    @property
    def share(self) -> float:
        """Of the load of an old replica, what it takes."""
        return self.standing.share

    async def close(self) -> None:
        """Ends the channel, whatever it carries."""
        if self.envelope is not None:
            await self.envelope.close()
        await self.channel.close()

    @contextmanager
    def held(self) -> Iterator[aio.Channel]:
        """The channel, open for as long as this lasts."""
        self._holders += 1
        self.free.clear()
        try:
            yield self.channel
        finally:
            self._holders -= 1
            if not self._holders:
                self.free.set()

    @contextmanager
    def carrying(self) -> Iterator[aio.Channel]:
        """Counts a call for as long as it lasts."""
        self.calls += 1
        self.in_flight += 1
        self.used_at = time.monotonic()
        try:
            with self.held() as channel:
                yield channel
        finally:
            self.in_flight -= 1


class Backend:
    """A service: the replicas it has and the choice between them."""

    def __init__(
        self, name: str, on_change: Callable[["Backend"], None] = lambda _: None, bounds: Bounds | None = None
    ) -> None:
        self.name = name
        self.gate = Gate(name, bounds)
        self.replicas: tuple[Replica, ...] = ()
        self.budget = RetryBudget()
        self.attempts = Attempts()
        # Set when a replica was lost: its name may stand for others by now.
        self.lost = asyncio.Event()
        self._on_change = on_change
        self._found, self._uptime = asyncio.Event(), Uptime()

    @property
    def healthy(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.health == SERVING]

    @property
    def trusted(self) -> list[Replica]:
        """The healthy without those that keep failing; all where more than half do: then it is not they."""
        healthy = self.healthy
        kept = [replica for replica in healthy if not replica.standing.out]
        return kept if 2 * len(kept) >= len(healthy) else healthy

    def pick(self, tried: Collection[Replica] = (), key: affinity.Key | None = None) -> Replica:
        """The healthy replica that `key` leads to; without one, that with the least in flight for its share.

        Raises Unavailable if there is none.
        """
        fit = [replica for replica in self.trusted if replica not in tried]
        fit = fit or [replica for replica in self.healthy if replica not in tried]
        if not fit:
            states = ", ".join(f"{r.address} {r.health}" for r in self.replicas) or "no address is set"
            raise unreachable(self.name, states)
        if key is not None:
            return affinity.home(key, fit)
        # The longest idle breaks ties: they take turns, and one that returns has nothing to catch up on.
        return min(fit, key=lambda replica: ((replica.in_flight + 1) / replica.share, replica.used_at))

    def another(self, tried: Collection[Replica]) -> bool:
        """Whether a healthy replica is left that was not tried."""
        return any(replica not in tried for replica in self.healthy)

    async def ready(self) -> None:
        """Returns once a replica is healthy, at once where none was for a while. Raises nothing."""
        await self._uptime.soon()

    async def up(self) -> None:
        """Returns once a replica is healthy."""
        await self._uptime.up()

    async def known(self) -> None:
        """Returns once it is known which replicas there are, and each said whether it serves."""
        await self._found.wait()
        for replica in self.replicas:
            await replica.known.wait()

    def consist_of(self, replicas: Collection[Replica]) -> None:
        """Takes the replicas there are from now on."""
        changed = self.replicas != tuple(replicas)
        self.replicas = tuple(replicas)
        self._found.set()
        self._review(changed)

    def told(self, replica: Replica, health: str) -> None:
        """Takes news of a replica's health."""
        changed = replica.health != health
        if changed and health == SERVING:
            replica.standing.begin()
        replica.health = health
        replica.known.set()
        if changed and health == UNREACHABLE:
            self.lost.set()
        self._review(changed)

    def _review(self, changed: bool) -> None:
        self._uptime.say(bool(self.healthy))
        if changed:
            self._on_change(self)


class Backends(Mapping[str, Backend]):
    """Every service by name."""

    def __init__(
        self,
        names: Collection[str],
        on_change: Callable[[Backend], None] = lambda _: None,
        bounds: Bounds | None = None,
    ) -> None:
        self._backends = {name: Backend(name, on_change, bounds) for name in names}

    def __getitem__(self, name: str) -> Backend:
        return self._backends[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._backends)

    def __len__(self) -> int:
        return len(self._backends)
