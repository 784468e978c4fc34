"""The load generator: N calls in flight for a while, latencies kept. Knows no protocol and no server."""

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from itertools import chain
from time import perf_counter
from typing import TypeVar

K = TypeVar("K")

Call = Callable[[], Awaitable[object]]
WARM_UP_SHARE, WARM_UP_S = 0.2, 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: units a second, latency of a call, CPU of the servers a unit (0 = not asked)."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float = 0.0


async def measure(
    call: Call, in_flight: int, seconds: float, cpu_s: Callable[[], float] | None = None, units: int = 1
) -> Sample:
    """Keeps `in_flight` calls of `units` each going; the first, unmeasured part warms up.

    A call that fails ends the benchmark.
    """
    await _drive(call, in_flight, min(WARM_UP_S, WARM_UP_SHARE * seconds))
    used, began = cpu_s() if cpu_s else 0.0, perf_counter()
    latencies = await _drive(call, in_flight, seconds)
    elapsed, used = perf_counter() - began, (cpu_s() if cpu_s else 0.0) - used
    return sample(latencies, units * len(latencies), elapsed, used)


def sample(latencies_s: Iterable[float], units: int, elapsed_s: float, cpu_s: float = 0.0) -> Sample:
    """`units` in `elapsed_s`, by calls that took `latencies_s` each."""
    ordered = sorted(latencies_s)
    return Sample(
        rate=units / elapsed_s,
        p50_ms=quantile(ordered, 0.5) * 1e3,
        p99_ms=quantile(ordered, 0.99) * 1e3,
        cpu_us=cpu_s / units * 1e6,
    )


def quantile(ordered: list[float], share: float) -> float:
    """The value that `share` of an ascending list does not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def _drive(call: Call, in_flight: int, seconds: float) -> list[float]:
    end = perf_counter() + seconds

    async def one() -> list[float]:
        latencies: list[float] = []
        now = perf_counter()
        while now < end:
            await call()
            began, now = now, perf_counter()
            latencies.append(now - began)
        return latencies

    return list(chain.from_iterable(await asyncio.gather(*(one() for _ in range(in_flight)))))


async def interleave(
    points: Mapping[K, Callable[[], Awaitable[Sample]]], repeat: int, tell: Callable[[str], None]
) -> dict[K, list[Sample]]:
    """Every point once a round, forwards and backwards in turn, so that a drift of the machine favours none."""
    samples: dict[K, list[Sample]] = {key: [] for key in points}
    for turn in range(repeat):
        for place, key in enumerate(list(points)[:: -1 if turn % 2 else 1], 1):
            tell(f"round {turn + 1} of {repeat}, point {place} of {len(points)}")
            samples[key].append(await points[key]())
    return samples


def median(samples: Iterable[Sample]) -> Sample:
    """The median of each figure by itself."""
    kept = list(samples)
    return Sample(*(statistics.median(getattr(one, field.name) for one in kept) for field in fields(Sample)))


def ratio(ours: Iterable[Sample], theirs: Iterable[Sample]) -> float:
    """Median over the rounds of our rate as a multiple of theirs in the same round."""
    return statistics.median(a.rate / b.rate for a, b in zip(ours, theirs, strict=True))


def spread(samples: Iterable[Sample]) -> float:
    """(largest - smallest) / median of the rate: what of a difference may be noise."""
    rates = [one.rate for one in samples]
    return (max(rates) - min(rates)) / statistics.median(rates)
