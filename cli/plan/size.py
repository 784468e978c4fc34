"""Chooses how many of each process: the fewest that keep up, then one more wherever it helps the slowest most."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cli.plan.fleet import Fleet, Outlook
from cli.plan.queueing import Stay
from cli.plan.stations import GATEWAY, NETWORK
from services.runtime.errors import InvalidInput

MOST = 100
TAIL = 0.99


@dataclass(frozen=True, slots=True)
class Goal:
    """`p99_ms` by method; no process and no link above `use` of what it could do."""

    p99_ms: Mapping[str, float]
    use: float = 0.8


@dataclass(frozen=True, slots=True)
class Plan:
    """`lost` is the outlook with one replica less of each station that has several, by its name."""

    replicas: Mapping[str, int]
    outlook: Outlook
    lost: Mapping[str, Outlook]

    @property
    def bottleneck(self) -> str:
        """What is nearest to its limit."""
        loads = {name: stay.load for name, stay in self.outlook.stays.items()}
        return max((load, name) for name, load in {**loads, NETWORK: self.outlook.network}.items())[1]


def plan(fleet: Fleet, goal: Goal) -> Plan:
    """InvalidInput where no fleet of at most MOST replicas a service reaches the goal."""
    _check_reachable(fleet, goal)
    replicas = {name: _fewest(fleet, name, goal.use) for name in fleet.stations}
    replicas[GATEWAY] = max(replicas[GATEWAY], math.ceil(fleet.network(1) / goal.use))
    while late := _latest(fleet.outlook(replicas), goal):
        replicas = _one_more(fleet, replicas, late)
    lost = {name: fleet.outlook(replicas | {name: count - 1}) for name, count in replicas.items() if count > 1}
    return Plan(replicas, fleet.outlook(replicas), lost)


def _check_reachable(fleet: Fleet, goal: Goal) -> None:
    for name, wanted_ms in goal.p99_ms.items():
        least_ms = fleet.least_ms(name, TAIL)
        if least_ms > wanted_ms:
            raise InvalidInput(
                "p99-ms",
                f"{name} takes {least_ms:.1f} ms (p99) where nothing else runs, so {wanted_ms:g} cannot be had",
            )


def _fewest(fleet: Fleet, station: str, use: float) -> int:
    count = max(1, math.ceil(fleet.used(station) / use))
    if count > MOST:
        raise InvalidInput(
            "rps", f"{station} would need {count} replicas, and {MOST} is the limit: plan several suites"
        )
    return count


def _latest(outlook: Outlook, goal: Goal) -> str | None:
    """The method that is furthest above its goal, if any is."""
    times = {name: outlook.quantile_ms(name, TAIL) / wanted for name, wanted in goal.p99_ms.items()}
    worst = max(times, key=lambda name: times[name])
    return worst if times[worst] > 1 else None


def _one_more(fleet: Fleet, replicas: dict[str, int], late: str) -> dict[str, int]:
    """Where those on its way wait longest. Redis is not asked: `use` keeps its waiting short."""
    stays = fleet.outlook(replicas).stays
    service = fleet.curves.methods[late].service
    waits = {name: _wait_s(stays[name]) for name in (service, GATEWAY) if replicas[name] < MOST}
    if not waits:
        raise InvalidInput("p99-ms", f"{late} needs more than {MOST} of {service} and of the gateway")
    slowest = max(waits, key=lambda name: waits[name])
    return replicas | {slowest: replicas[slowest] + 1}


def _wait_s(stay: Stay) -> float:
    """How much longer than nearly everybody the slowest of a hundred stay."""
    first, last = np.quantile(stay.sojourns, (1 - TAIL, TAIL)) if stay.stable else (0.0, np.inf)
    return float(last - first)
