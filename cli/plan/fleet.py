"""What a load meets in a fleet of so many processes: waiting, use, limits. Chooses nothing, measures nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cli.plan.curves import Curves, Points
from cli.plan.queueing import FULL, Array, Stay
from cli.plan.stations import GATEWAY, REDIS, Load, overfull, used
from cli.plan.walked import Walked


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
    """`aside` is what a caller needs whose core is the gateways' too."""

    curves: Curves
    load: Load
    aside: Points | None = None
    _outlooks: dict[tuple[int, ...], Outlook] = field(default_factory=dict, compare=False, repr=False)

    @property
    def stations(self) -> list[str]:
        """Redis, the gateway, and the services that the load asks for."""
        services = dict.fromkeys(self.curves.methods[name].service for name in self.load.rates)
        return [*services, GATEWAY, REDIS]

    def used(self, station: str, replicas: int = 1) -> float:
        """Share of the most that so many could do."""
        return used(self.curves, self.load, station) / replicas

    def network(self, gateways: int) -> float:
        """Share of a gateway's link: requests of clients and replies of services come in, and as much goes out."""
        methods = ((self.curves.methods[name], rate) for name, rate in self.load.rates.items())
        bits = sum(8 * rate * (method.request_bytes + method.reply_bytes) for method, rate in methods)
        return bits / (gateways * self.load.gbit * 1e9)

    def least_ms(self, method: str, share: float) -> float:
        """Where nothing else runs."""
        return float(np.quantile(self.curves.methods[method].idle_s, share)) * 1e3

    def outlook(self, replicas: Mapping[str, int]) -> Outlook:
        key = tuple(replicas[name] for name in self.stations)
        if key not in self._outlooks:
            self._outlooks[key] = self._outlook(replicas)
        return self._outlooks[key]

    def _outlook(self, replicas: Mapping[str, int]) -> Outlook:
        used_ = {name: self.used(name, replicas[name]) for name in self.stations}
        network = self.network(replicas[GATEWAY])
        if max(used_.values()) >= FULL:
            stays = {name: overfull(one) for name, one in used_.items()}
            return Outlook(stays, dict.fromkeys(self.load.rates, np.empty(0)), network)
        walked = Walked(self.curves, self.load, {name: replicas[name] for name in self.stations}, self.aside)
        stays = {name: Stay(walked.stayed(name), walked.busy(name), one) for name, one in used_.items()}
        return Outlook(stays, {name: walked.latencies(name) for name in self.load.rates}, network)
