"""The rates as bars, a panel a point. Measures nothing."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tests.bench.load import median
from tests.bench.serving.report import ALONE, Result

COLUMNS = 4
OWN, OTHER, LIMIT = "#c0392b", "#7f8c9a", "#d5dbe1"


def draw(results: Sequence[Result], versions: str, path: Path) -> Path:
    """Writes a PNG: the rate of each way, the range of its rounds as a line."""
    panels = [(result, point) for result in results for point in result.points]
    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(4.4 * COLUMNS, 2.7 * rows + 0.6), layout="constrained")
    figure.suptitle(versions, fontsize=9)
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.axis("off")
    for axis, (result, point) in zip(axes, panels, strict=False):
        _panel(axis, result, point)
    figure.savefig(path, dpi=110)
    return path


def _panel(axis, result: Result, point: str) -> None:
    ways = result.ways(point)
    rates = [[one.rate for one in samples] for samples in ways.values()]
    middles = [median(samples).rate for samples in ways.values()]
    axis.barh(list(ways), middles, color=[_colour(name) for name in ways], height=0.7)
    axis.hlines(range(len(ways)), [min(r) for r in rates], [max(r) for r in rates], color="black", lw=1)
    for place, middle in enumerate(middles):
        axis.text(0, place, f" {middle:,.0f}", va="center", ha="left", fontsize=8)
    # A ceiling may be a hundred times as high: it is cut, its number is not.
    axis.set_xlim(
        0, 1.1 * max(middle for name, middle in zip(ways, middles, strict=True) if not name.endswith(ALONE))
    )
    axis.invert_yaxis()
    axis.set_title(f"{result.title}\n{result.short(point)} in flight, {result.unit}", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)


def _colour(name: str) -> str:
    return OWN if name.startswith("ours") else LIMIT if name.endswith(ALONE) else OTHER
