"""Draws what docs/tuning.md shows, out of the newest runs in `.maas/bench/*.json`: python -m tests.bench.pages.

Measures nothing.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[2]
RUNS = ROOT / ".maas" / "bench"
PICTURE = ROOT / "docs" / "plots" / "tuning.png"
OURS, OTHER = "#c0392b", "#7f8c9a"
PATHS = {"direct": "direct", "gateway, cache bypassed": "passed on", "gateway, hit in process": "hit"}
POINTS = ("decode 1", "decode 8", "decode 32")

Rows = Sequence[Mapping[str, Any]]


def newest(part: str, title: str) -> Rows:
    """Rows of the latest table of `part` whose title begins so. LookupError names what must be run first."""
    runs = [run for file in sorted(RUNS.glob("2*.json")) for run in json.loads(file.read_text())]
    tables = [table for run in runs if run["part"] == part for table in run["tables"]]
    found = [
        table["rows"] for table in tables if table["title"].startswith(title) and complete(part, table["rows"])
    ]
    if not found:
        raise LookupError(f"no run of {part} in {RUNS}: python -m tests.bench {part}")
    return found[-1]  # type: ignore[no-any-return]


def complete(part: str, rows: Rows) -> bool:
    """Whether a run has what the picture compares."""
    if part == "gateway":
        return {row.get("transport") for row in rows} == {"grpc", "native"}
    return part != "generation" or len({row["engine"] for row in rows}) > 4


def transports(axis: Axes) -> None:
    """CPU of all servers on the way, by transport, at 16 in flight."""
    rows = [row for row in newest("gateway", "hop cost") if row["in flight"] == 16]
    for at, (transport, colour) in enumerate((("grpc", OTHER), ("native", OURS))):
        cpu = {row["path"]: row["CPU µs"] for row in rows if row["transport"] == transport}
        places = [place + 0.4 * at for place in range(len(PATHS))]
        axis.bar(places, [cpu[path] for path in PATHS], 0.38, color=colour, label=transport)
    axis.set_xticks([place + 0.2 for place in range(len(PATHS))], list(PATHS.values()))
    axis.set_title("CPU µs a short call, 16 in flight", fontsize=9)


def batching(axis: Axes) -> None:
    """Tokens a second of generation by how many ask at once, beside the best of other engines."""
    rows = [row for row in newest("generation", "generation: smollm2") if row["workload"] in POINTS]
    flights = [int(point.split()[1]) for point in POINTS]
    ours = [rate(rows, point, ("ours, over gRPC",)) for point in POINTS]
    engines = {row["engine"] for row in rows if not row["engine"].startswith("ours")}
    best = [rate(rows, point, engines) for point in POINTS]
    axis.plot(flights, ours, "o-", color=OURS, label="ours, over gRPC")
    axis.plot(flights, best, "o-", color=OTHER, label="best other engine")
    axis.set_xscale("log", base=2)
    axis.set_xticks(flights, [str(one) for one in flights])
    axis.set_title("generated tokens/s by requests at once", fontsize=9)


def rate(rows: Rows, point: str, engines: Iterable[str]) -> float:
    """The highest among some engines."""
    wanted = set(engines)
    return max(row["tokens/s"] or 0 for row in rows if row["workload"] == point and row["engine"] in wanted)


def overload(axis: Axes) -> None:
    """What is answered in time by what is offered, with shedding and without."""
    rows = newest("overload", "overload: Classify")
    for way, colour in (("shedding", OURS), ("none", OTHER)):
        points = [row for row in rows if row["shedding"] == way]
        offered = [row["offered x"] for row in points]
        axis.plot(offered, [row["goodput/s"] for row in points], "o-", color=colour, label=f"MAAS_SHED: {way}")
    axis.set_title("answered in time, calls/s, by offered load", fontsize=9)


def draw(path: Path) -> None:
    """Three pictures beside each other."""
    figure = Figure(figsize=(11, 3), layout="constrained")
    for axis, panel in zip(figure.subplots(1, 3), (transports, batching, overload), strict=True):
        panel(axis)
        axis.set_ylim(bottom=0)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(fontsize=7, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    draw(PICTURE)
