"""What a load meets in a fleet of so many processes: waiting, use, limits. Chooses nothing, measures nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from cli.plan.curves import Curves
from cli.plan.queueing import DRAWS, Array, Stay, batching, sharing, total

GATEWAY, REDIS, NETWORK = "gateway", "redis", "network"
FRONT = (GATEWAY, REDIS)


@dataclass(frozen=True, slots=True)
class Load:
    """Calls a second by method; `hits`: share of them whose answers the gateway knows; a link carries `gbit`."""

    rates: Mapping[str, float]
    hits: float = 0.0
    gbit: float = 10.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """Stays by station, latencies in seconds by method; `network`: the share of a gateway's link that is used."""

    stays: Mapping[str, Stay]
    latencies: Mapping[str, Array]
    network: float

    @property
    def stable(self) -> bool:
        return all(one.stable for one in self.stays.values()) and self.network < 1

    def quantile_ms(self, method: str, share: float) -> float:
        """Infinite where a station on the way cannot keep up."""
        found = self.latencies[method]
        return float(np.quantile(found, share)) * 1e3 if found.size else float("inf")

    def mean_ms(self, method: str) -> float:
        found = self.latencies[method]
        return float(found.mean()) * 1e3 if found.size else float("inf")


@dataclass(frozen=True)
class Fleet:
    """A gateway gives a service's least busy replica the next call, and knows of no other gateway's calls."""

    curves: Curves
    load: Load
    _stays: dict[tuple[str, int, int], Stay] = field(default_factory=dict, compare=False, repr=False)

    @property
    def stations(self) -> list[str]:
        """Redis, the gateway, and the services that the load asks for."""
        services = dict.fromkeys(self.curves.methods[name].service for name in self.load.rates)
        return [*services, GATEWAY, REDIS]

    def outlook(self, replicas: Mapping[str, int]) -> Outlook:
        gateways = replicas[GATEWAY]
        pools = {name: 1 if name in FRONT else max(1, replicas[name] // gateways) for name in self.stations}
        stays = {name: self.stay(name, replicas[name], pool) for name, pool in pools.items()}
        latencies = {name: self._latencies(name, stays) for name in self.load.rates}
        return Outlook(stays, latencies, self._bits() / (replicas[GATEWAY] * self.load.gbit * 1e9))

    def stay(self, station: str, replicas: int, pool: int = 1) -> Stay:
        """At one of its replicas, of which a gateway chooses among `pool`."""
        key = station, replicas, pool
        if key not in self._stays:
            self._stays[key] = self._worked_out(*key)
        return self._stays[key]

    def _worked_out(self, station: str, replicas: int, pool: int) -> Stay:
        rates = self._rates(station)
        rate = sum(rates.values()) / replicas
        shares = {name: one / sum(rates.values()) for name, one in rates.items() if one}
        mixed = np.sum([share * self._seconds(station, name) for name, share in shares.items()], axis=0)
        if not np.any(mixed):
            return Stay(np.zeros(DRAWS), 0.0, 0.0)
        if station not in FRONT and any(self.curves.methods[name].shared for name in rates):
            return sharing(rate, mixed)
        return batching(rate, mixed, pool)

    def _rates(self, station: str) -> dict[str, float]:
        """Calls a second that reach it: what is known goes no further than the gateway."""
        if station == GATEWAY:
            return dict(self.load.rates)
        missed = {name: rate * (1 - self.load.hits) for name, rate in self.load.rates.items()}
        if station == REDIS:
            return missed
        return {name: rate for name, rate in missed.items() if self.curves.methods[name].service == station}

    def _seconds(self, station: str, name: str) -> Array:
        """S(1), S(2) … of the method there."""
        method, hits = self.curves.methods[name], self.load.hits
        each = np.arange(1, len(method.points.batches()) + 1)
        if station == REDIS:
            return np.asarray(each * self.curves.redis_s)
        if station != GATEWAY:
            return method.points.batches()
        missed = method.gateway.batches() + each * self._keep_s
        return np.asarray((1 - hits) * missed + each * hits * self.curves.hit_s)

    @property
    def _keep_s(self) -> float:
        return self.curves.keep_s if self.load.hits else 0.0

    def _latencies(self, name: str, stays: Mapping[str, Stay]) -> Array:
        """Of calls whose answers are computed: what an idle suite needs, and the waiting at each station."""
        method = self.curves.methods[name]
        on_way = [method.service, GATEWAY, *([REDIS] if self.load.hits else [])]
        if not all(stays[station].stable for station in on_way):
            return np.empty(0)
        parts = [_drawn(method.idle_s)]
        parts += [stays[station].sojourns - self._seconds(station, name)[0] for station in on_way]
        return np.maximum(0.0, total(parts))

    def _bits(self) -> float:
        """A second, into all gateways, and as many out: requests from clients and replies from services."""
        methods = ((self.curves.methods[name], rate) for name, rate in self.load.rates.items())
        return sum(8 * rate * (method.request_bytes + method.reply_bytes) for method, rate in methods)


@cache
def _quantiles(count: int) -> Array:
    return np.asarray((np.arange(count) + 0.5) / count)


def _drawn(kept: Sequence[float]) -> Array:
    """As many as the others, out of a few quantiles."""
    return np.asarray(np.interp(_quantiles(DRAWS), _quantiles(len(kept)), np.sort(kept)))
