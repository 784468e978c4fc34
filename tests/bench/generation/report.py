"""The tables of what was found. Measures nothing."""

import statistics
from collections.abc import Iterable, Sequence

from tests.bench.generation.engines import InProcess
from tests.bench.generation.measure import Bench, Found
from tests.bench.generation.workload import Point
from tests.bench.load import Sample, median, ratio, spread
from tests.bench.peers.prepare import Missing
from tests.bench.table import Table

OURS, PLAIN = "ours, over gRPC", "ours, no drafts"
STREAMED, BARE = "ours, streamed", "ours, in process"
REFERENCE = "transformers fp32"
FIGURES = ("workload", "engine", "tokens/s", "p50 ms", "p99 ms", "ours / it", "same first", "spread")
BEST = ("workload", "ours", "best peer", "its", "ours / it", "p99, ours / best")


def figures(points: Sequence[Point], engines: Iterable[str], found: Found, bench: Bench, title: str) -> Table:
    """Every engine at every point."""
    table, names = Table(title, FIGURES), list(engines)
    for point in points:
        for name in names:
            samples = found[point.name, name]
            middle = median(samples)
            same = bench.agreement(point.name, name, REFERENCE)
            table.add(
                samples,
                *(point.name, name, middle.rate, middle.p50_ms, middle.p99_ms),
                ratio(found[point.name, OURS], samples),
                *(None if same is None else f"{same:.0%}", f"{spread(samples):.0%}"),
            )
        table.rule()
    return table


def best(points: Sequence[Point], peers: Sequence[str], found: Found) -> Table:
    """Ours against the peer with the best median; p99 against the peer with the best p99."""
    table = Table("generation: ours over gRPC against the best peer in process", BEST)
    for point in points:
        ours = found[point.name, OURS]
        fastest = max(peers, key=lambda name: median(found[point.name, name]).rate)
        patient = min(peers, key=lambda name: median(found[point.name, name]).p99_ms)
        theirs = found[point.name, fastest]
        tail = statistics.median(
            a.p99_ms / b.p99_ms for a, b in zip(ours, found[point.name, patient], strict=True)
        )
        table.add(ours, point.name, median(ours).rate, fastest, median(theirs).rate, ratio(ours, theirs), tail)
    return table


def states(ours: tuple[float, float], peers: Iterable[tuple[str, InProcess]], missing: Iterable[Missing]) -> Table:
    """Seconds from start to the first answer and peak memory of each process; and who is not here, and why."""
    table = Table("generation: the processes", ("engine", "start s", "peak MiB", "state"))
    table.add([], OURS, *ours, "measured")
    for name, engine in peers:
        table.add([], name, engine.start_s, engine.peak_mib, f"measured, {engine.release}")
    for one in missing:
        table.add([], one.name, None, None, one.reason)
    return table


def costs(point: Point, found: Found) -> Table:
    """What the service costs on top of its engine; and a known prefix, as a share of a new one's time."""
    table = Table(f"generation: what serving costs, {point.name}", ("way", "tokens/s", "x in process", "spread"))
    bare = found[point.name, BARE]
    for name in (BARE, OURS, STREAMED):
        samples = found[point.name, name]
        table.add(samples, name, median(samples).rate, ratio(samples, bare), f"{spread(samples):.0%}")
    return table


def prefixes(first: str, again: str, engines: Iterable[str], found: Found) -> Table:
    """Time to the first token of a prompt whose prefix is new, and of one whose prefix is known."""
    table = Table(
        "generation: first token of a prompt of 256 + 16", ("engine", "new ms", "known ms", "known / new")
    )
    for name in engines:
        new, known = found[first, name], found[again, name]
        share = _median_ratio(known, new)
        table.add(known, name, median(new).p50_ms, median(known).p50_ms, share)
    return table


def _median_ratio(these: Sequence[Sample], those: Sequence[Sample]) -> float:
    return statistics.median(a.p50_ms / b.p50_ms for a, b in zip(these, those, strict=True))
