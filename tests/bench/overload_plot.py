"""Offered load against goodput and p99, a line a way. Measures nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

COLOURS = ("#c0392b", "#7f8c9a")


def draw(lines: Mapping[str, Sequence[Any]], capacity: float, deadline_s: float, path: Path) -> Path:
    """Writes a PNG. `lines`: points by way, with `offered` and `answered`; dashed: all that can be had."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    goodput, tail = figure.subplots(1, 2)
    for (way, points), colour in zip(lines.items(), COLOURS, strict=False):
        offered = [point.offered for point in points]
        goodput.plot(offered, [point.answered.rate for point in points], "o-", color=colour, label=way)
        tail.plot(offered, [point.answered.p99_ms for point in points], "o-", color=colour, label=way)
    goodput.axhline(capacity, color="black", lw=1, ls="--")
    tail.axhline(deadline_s * 1000, color="black", lw=1, ls="--")
    for axis, title in ((goodput, "answered in time, calls/s"), (tail, "p99 of the answered, ms")):
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("offered, calls/s", fontsize=8)
        axis.set_ylim(bottom=0)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    goodput.legend(title="shedding", fontsize=8, title_fontsize=8)
    figure.savefig(path, dpi=110)
    return path
