"""What each kind of call costs at each station on its way, out of the curves. Counts no processes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cli.plan.curves import LARGEST, Curves, Points
from cli.plan.processes import Cost
from cli.plan.queueing import FULL, Array, Stay, batching, sharing

GATEWAY, REDIS, NETWORK = "gateway", "redis", "network"
VISITS = 2  # of a gateway: with the request, with the reply


@dataclass(frozen=True, slots=True)
class Load:
    """Calls a second by method; `hits`: share of them whose answers the gateway knows; a link carries `gbit`."""

    rates: Mapping[str, float]
    hits: float = 0.0
    gbit: float = 10.0


@dataclass(frozen=True, slots=True)
class Kind:
    """Calls of a method whose answers are `known` to the gateway or are not; `rate` a second."""

    method: str
    known: bool
    rate: float


def kinds(load: Load) -> list[Kind]:
    """Those that come."""
    found = [(known, load.hits if known else 1 - load.hits) for known in (False, True)]
    every = [Kind(name, known, rate * share) for name, rate in load.rates.items() for known, share in found]
    return [one for one in every if one.rate]


def cost(curves: Curves, load: Load, station: str, kind: Kind) -> Cost | None:
    """None where it does not come."""
    method = curves.methods[kind.method]
    each = np.arange(1.0, LARGEST + 1)
    if station == GATEWAY and kind.known:
        return Cost(np.asarray(each * curves.hit_s))
    if station == GATEWAY:
        kept = each * (curves.keep_s if load.hits else 0.0)
        return _front(method.gateway, method.gateway.batches() + kept)
    if kind.known or station not in (REDIS, method.service):
        return None
    if station == REDIS:
        return Cost(np.asarray(each * curves.redis_s))
    batched = method.most < LARGEST
    return Cost(
        method.points.batches(method.most), method.points.gaps, method.points.waking, 1, batched, method.alone_s
    )


def aside(points: Points) -> Cost:
    """A caller's: it sends, and reads the answer."""
    return _front(points, points.batches())


def used(curves: Curves, load: Load, station: str) -> float:
    """Of the most that one process could do."""
    costs = ((kind.rate, cost(curves, load, station, kind)) for kind in kinds(load))
    return sum(rate * float(one.batches[-1]) / len(one.batches) for rate, one in costs if one)


def delay(curves: Curves, load: Load, station: str, replicas: int) -> Stay | None:
    """Of Redis and of those who take up new calls while others run: what a formula says. Else None."""
    came = [(kind.rate, one) for kind in kinds(load) if (one := cost(curves, load, station, kind))]
    shared = [one.shared for one in curves.methods.values() if one.service == station]
    if station != REDIS and not any(shared):
        return None
    total = sum(rate for rate, _ in came)
    mixed = sum((rate / total * one.batches for rate, one in came), np.zeros(1))
    if not np.any(mixed):
        return Stay(np.zeros(1), 0.0, 0.0)
    law = batching if station == REDIS else sharing
    return law(total / replicas, np.asarray(mixed))


def _front(points: Points, batches: Array) -> Cost:
    return Cost(batches, points.gaps, points.waking, VISITS, batched=False)


def overfull(used_: float) -> Stay:
    """Of a station beside one that cannot keep up, or of that one itself."""
    return Stay(np.empty(0) if used_ >= FULL else np.zeros(1), min(1.0, used_), used_)
