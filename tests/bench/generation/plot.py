"""The rates as bars, a panel a workload. Measures nothing."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tests.bench.generation.measure import Found
from tests.bench.generation.report import OURS
from tests.bench.generation.workload import Point
from tests.bench.load import median

COLUMNS = 3
OWN, OTHER = "#c0392b", "#7f8c9a"


def draw(points: Sequence[Point], engines: Sequence[str], found: Found, title: str, path: Path) -> Path:
    """Writes a PNG: tokens/s of each engine, the range of its rounds as a line."""
    rows = -(-len(points) // COLUMNS)
    figure = Figure(figsize=(4.6 * COLUMNS, 0.42 * len(engines) * rows + 1.4 * rows), layout="constrained")
    figure.suptitle(title, fontsize=10)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for panel in panels[len(points) :]:
        panel.axis("off")
    for panel, point in zip(panels, points, strict=False):
        rates = [[one.rate for one in found[point.name, name]] for name in engines]
        middles = [median(found[point.name, name]).rate for name in engines]
        panel.barh(engines, middles, color=[OWN if name == OURS else OTHER for name in engines], height=0.7)
        panel.hlines(range(len(engines)), [min(r) for r in rates], [max(r) for r in rates], color="black", lw=1)
        for place, middle in enumerate(middles):
            panel.text(0, place, f" {middle:,.0f}", va="center", ha="left", fontsize=8, color="white")
        panel.invert_yaxis()
        panel.set_title(f"{point.name}, {point.counted} tokens/s", fontsize=9)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    return path
