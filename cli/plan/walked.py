"""A fleet under a load, simulated: its processes and calls made out of the curves, and what became of them."""

from collections.abc import Mapping

import numpy as np

from cli.plan.curves import Curves, Points
from cli.plan.processes import Call, Cost, Pool, Process
from cli.plan.queueing import SEED, Array
from cli.plan.simulation import Walk
from cli.plan.stations import GATEWAY, REDIS, Kind, Load, aside, cost, delay, kinds

CALLS = 12_000
SETTLED = 1_000  # of them, until the fleet is as busy as it stays


class Walked:
    """Clients give each gateway its turn; a gateway gives the next call to the replica that has the fewest of its
    own, and knows of no other gateway's. `beside`: of a caller on the gateway's core.
    """

    def __init__(
        self, curves: Curves, load: Load, replicas: Mapping[str, int], beside: Points | None = None
    ) -> None:
        self._curves, self._load, self._beside = curves, load, beside
        self._kinds, self._draw = kinds(load), np.random.default_rng(SEED)
        self._laws = {name: delay(curves, load, name, count) for name, count in replicas.items()}
        self._processes: list[Process] = []
        self._pools = {name: self._made(name, count) for name, count in replicas.items() if name != REDIS}
        self._caller = self._beside_gateway(beside) if beside else None
        self._calls = self._coming()
        self._seconds = Walk(self._processes, self._calls).run()

    def latencies(self, method: str) -> Array:
        """Of calls whose answers are computed, in seconds."""
        asked = [place for place, kind in enumerate(self._kinds) if kind.method == method and not kind.known]
        calls = [call for call in self._calls[SETTLED:] if call.kind in asked]
        gateways = self._pools[GATEWAY]
        slept = np.array([next(call.slept[at] for at in gateways if at in call.slept) for call in calls])
        found = np.array([call.left - call.came for call in calls])
        return np.maximum(
            0.0, found + self._curves.methods[method].rest_s(slept, self._beside) + self._asked(calls)
        )

    def stayed(self, station: str) -> Array:
        """Seconds of those who came to it."""
        if law := self._laws[station]:
            return law.sojourns
        pool = self._pools[station]
        return np.array([call.stayed[at] for call in self._calls[SETTLED:] for at in pool if at in call.stayed])

    def busy(self, station: str) -> float:
        if law := self._laws[station]:
            return law.busy
        pool = self._pools[station]
        return sum(self._processes[at].worked for at in pool) / len(pool) / self._seconds

    def _asked(self, calls: list[Call]) -> Array | float:
        """Seconds in which Redis looks up and keeps."""
        law = self._laws[REDIS]
        return self._draw.choice(law.sojourns, len(calls)) if law and self._load.hits else 0.0

    def _made(self, station: str, count: int) -> Pool:
        """Its processes, each on a core of its own."""
        costs = {
            place: found
            for place, kind in enumerate(self._kinds)
            if (found := cost(self._curves, self._load, station, kind))
        }
        law = self._laws[station]
        return tuple(self._add(len(self._processes), costs, law.sojourns if law else None) for _ in range(count))

    def _beside_gateway(self, caller: Points) -> int:
        core = self._processes[self._pools[GATEWAY][0]].core
        return self._add(core, dict.fromkeys(range(len(self._kinds)), aside(caller)))

    def _add(self, core: int, costs: Mapping[int, Cost], delays: Array | None = None) -> int:
        self._processes.append(Process(core, costs, delays))
        return len(self._processes) - 1

    def _coming(self) -> list[Call]:
        """At random (Poisson), a kind each by its share."""
        rates = np.array([kind.rate for kind in self._kinds])
        moments = np.cumsum(self._draw.exponential(1 / rates.sum(), CALLS))
        which = self._draw.choice(len(rates), CALLS, p=rates / rates.sum())
        spreads = [self._draw.choice(self._curves.methods[kind.method].spread, CALLS) for kind in self._kinds]
        gateways = self._pools[GATEWAY]
        return [
            Call(moment, kind, self._way(self._kinds[kind], gateways[turn % len(gateways)]), spreads[kind][turn])
            for turn, (moment, kind) in enumerate(zip(moments.tolist(), which.tolist(), strict=True))
        ]

    def _way(self, kind: Kind, gateway: int) -> list[Pool]:
        front: Pool = (gateway,)
        service = self._pools[self._curves.methods[kind.method].service]
        way = [front] if kind.known else [front, service, front]
        return way if self._caller is None else [(self._caller,), *way, (self._caller,)]
