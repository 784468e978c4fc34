"""A plan as a table for people and as JSON. Works nothing out but sums."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cli.plan.fleet import Fleet, Outlook
from cli.plan.size import Plan
from cli.plan.stations import NETWORK
from cli.render import fields, out, table
from services.runtime.errors import InvalidInput

FROM_MIB = 1.25  # what is asked for above what was seen


@dataclass(frozen=True, slots=True)
class Price:
    """Of an hour."""

    core: float = 0.0
    gib: float = 0.0


def told(made: Plan, fleet: Fleet, price: Price) -> dict[str, Any]:
    """Everything, as JSON."""
    memory = {name: _memory_mib(fleet, name) for name in made.replicas}
    cores = sum(made.replicas.values())
    gib = sum(count * memory[name] for name, count in made.replicas.items()) / 1024
    found = {
        "processes": {
            name: {
                "replicas": count,
                "cores_each": 1,
                "memory_mib_each": memory[name],
                "busy": round(made.outlook.stays[name].busy, 3),
                "load": round(made.outlook.stays[name].load, 3),
                "one_lost": _lost(made.lost.get(name), name),
            }
            for name, count in made.replicas.items()
        },
        "latency": {name: _latency(made.outlook, name) for name in fleet.load.rates},
        "network": {"load": round(made.outlook.network, 3), "gbit_a_gateway": fleet.load.gbit},
        "bottleneck": made.bottleneck,
        "cores": cores,
        "memory_gib": round(gib, 1),
        "measured": dict(fleet.curves.measured),
    }
    cost = cores * price.core + gib * price.gib
    return found | ({"cost_an_hour": round(cost, 2)} if cost else {})


def show(made: Plan, fleet: Fleet, price: Price) -> None:
    told_ = told(made, fleet, price)
    rows = [
        [
            name,
            str(one["replicas"]),
            f"{one['memory_mib_each']:,}",
            _percent(one["busy"]),
            _percent(one["load"]),
            _said(one["one_lost"]),
        ]
        for name, one in told_["processes"].items()
    ]
    numbers = ("replicas", "MiB each", "busy", "of its most")
    out().print(table(("process", *numbers, "with one less"), rows, right=numbers))
    times = [
        [name, f"{fleet.load.rates[name]:,.0f}", *(f"{value:,.1f}" for value in one.values())]
        for name, one in told_["latency"].items()
    ]
    heads = ("calls/s", "mean ms", "p50 ms", "p99 ms")
    out().print(table(("call", *heads), times, right=heads))
    measured = told_["measured"]
    summary = {
        "in all": f"{told_['cores']} cores, {told_['memory_gib']:,} GiB" + _cost(told_),
        "nearest its limit": told_["bottleneck"],
        NETWORK: f"{_percent(told_['network']['load'])} of {fleet.load.gbit:g} Gbit/s at each gateway",
        "measured": f"{measured.get('when', '?')} on {measured.get('cpu', '?')}",
    }
    out().print(fields(summary))


def _latency(outlook: Outlook, name: str) -> dict[str, float]:
    return {
        "mean_ms": round(outlook.mean_ms(name), 3),
        "p50_ms": round(outlook.quantile_ms(name, 0.5), 3),
        "p99_ms": round(outlook.quantile_ms(name, 0.99), 3),
    }


def _lost(outlook: Outlook | None, station: str) -> dict[str, Any] | None:
    """None where there is no other: its calls fail, or for Redis are computed each time."""
    if outlook is None:
        return None
    if not outlook.stays[station].stable:
        return {"keeps_up": False, "answered_share": round(1 / outlook.stays[station].load, 3)}
    worst = max(outlook.latencies, key=lambda name: outlook.quantile_ms(name, 0.99))
    return {"keeps_up": True, "slowest": worst, "p99_ms": round(outlook.quantile_ms(worst, 0.99), 3)}


def _said(lost: Mapping[str, Any] | None) -> str:
    if lost is None:
        return "there is no other"
    if not lost["keeps_up"]:
        return f"sheds {_percent(1 - lost['answered_share'])}"
    return f"{lost['slowest']} p99 {lost['p99_ms']:,.1f} ms"


def _memory_mib(fleet: Fleet, station: str) -> int:
    """InvalidInput where the curves do not say."""
    names = {"redis": "valkey"}
    try:
        return round(fleet.curves.memory_mib[names.get(station, station)] * FROM_MIB)
    except KeyError:
        raise InvalidInput("curves", f"they do not say what memory {station} takes: measure again") from None


def _percent(share: float) -> str:
    return f"{share:.0%}"


def _cost(told_: Mapping[str, Any]) -> str:
    return f", {told_['cost_an_hour']:,.2f} an hour" if "cost_an_hour" in told_ else ""
