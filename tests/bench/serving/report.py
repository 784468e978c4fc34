"""The tables of what was found. Measures nothing."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.load import Sample, median, ratio, spread
from tests.bench.peers.prepare import Missing
from tests.bench.serving.ways import Point
from tests.bench.table import Table

OURS, TRITON, ALONE = "ours", "triton tuned", " alone"
BEST = ("what, in flight", "ours", "x triton", "best other", "its", "x it", "p50 ms", "p50 x triton")

Found = Mapping[Point, Sequence[Sample]]


@dataclass(frozen=True, slots=True)
class Result:
    """Samples by (point, way). Of `found` those points that begin with `form`; all when it is empty."""

    title: str
    unit: str
    found: Found
    form: str = ""

    @property
    def points(self) -> list[str]:
        return list(dict.fromkeys(point for point, _ in self.found if point.startswith(self.form)))

    def short(self, point: str) -> str:
        """Without what the title says already."""
        return point.removeprefix(self.form).removeprefix(", ")

    def ways(self, point: str) -> dict[str, Sequence[Sample]]:
        return {way: samples for (where, way), samples in self.found.items() if where == point}


def figures(result: Result) -> Table:
    """Every way at every point. CPU: of all processes, the client's too. Above 1, `x` speak for ours."""
    columns = ("in flight", "way", result.unit, "p50 ms", "p99 ms", "CPU ms", "x it", "p50 x", "CPU x", "spread")
    table = Table(f"serving: {result.title}", columns)
    for point in result.points:
        ways = result.ways(point)
        ours = ways[OURS]
        for name, samples in ways.items():
            middle = median(samples)
            table.add(
                samples,
                *(result.short(point), name, middle.rate, middle.p50_ms, middle.p99_ms, middle.cpu_us / 1e3),
                ratio(ours, samples),
                _less(ours, samples, "p50_ms"),
                _less(ours, samples, "cpu_us"),
                f"{spread(samples):.0%}",
            )
        table.rule()
    return table


def best(results: Iterable[Result]) -> Table:
    """Ours against Triton tuned, and against the best of the others, floors included, at every point of all."""
    table = Table("serving: in short", BEST)
    for result in results:
        for point in result.points:
            ways = {name: one for name, one in result.ways(point).items() if not name.endswith(ALONE)}
            ours = ways.pop(OURS)
            tritons = [one for name, one in ways.items() if name.startswith("triton")]
            others = {name: one for name, one in ways.items() if not name.startswith(("triton", OURS))}
            leader = max(others, key=lambda name: median(others[name]).rate, default=None)
            table.add(
                ours,
                *(f"{result.title}, {result.short(point)}", median(ours).rate),
                ratio(ours, ways[TRITON]) if TRITON in ways else None,
                *((leader, median(others[leader]).rate, ratio(ours, others[leader])) if leader else (None,) * 3),
                median(ours).p50_ms,
                min((_less(ours, one, "p50_ms") for one in tritons), default=None),
            )
        table.rule()
    return table


def absences(missing: Iterable[Missing], versions: Mapping[str, str]) -> Table:
    """Which servers there were, and why others were not."""
    table = Table("serving: who was there", ("server", "state"))
    for name, version in versions.items():
        table.add([], name, version)
    for one in missing:
        table.add([], one.name, one.reason)
    return table


def _less(ours: Sequence[Sample], theirs: Sequence[Sample], figure: str) -> float:
    """Their figure as a multiple of ours, the median over the rounds: above 1 we need less."""
    return statistics.median(getattr(b, figure) / getattr(a, figure) for a, b in zip(ours, theirs, strict=True))
