"""One trace as a picture: a row for each span, deeper ones further in. Knows no collector and no server."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tests.collector import Told

COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860")
ROW_INCHES, WIDTH_INCHES, LABEL_SHARE = 0.27, 13.0, 0.34
# So many of one name below one span share a row.
MANY = 4
# What takes so much of the whole says its words within its bar.
WIDE = 0.5


@dataclass(frozen=True, slots=True)
class Row:
    """Spans of one name below one parent: one, or the many steps of an engine."""

    depth: int
    spans: Sequence[Told]


def draw(spans: Sequence[Told], title: str, path: Path) -> None:
    """Writes PNG or SVG, by the name of the file. `spans` are those of one trace."""
    rows = list(rows_of(spans))
    began, ended = min(one.began_ns for one in spans), max(one.ended_ns for one in spans)
    services = list(dict.fromkeys(one.service for one in sorted(spans, key=lambda one: one.began_ns)))
    colours = dict(zip(services, COLOURS * len(services), strict=False))
    figure = Figure((WIDTH_INCHES, ROW_INCHES * len(rows) + 1.3))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        _row(axes, place, row, began, colours[row.spans[0].service], (ended - began) / 1e6)
    _frame(axes, len(rows), (ended - began) / 1e6, title)
    keys = [Patch(color=colours[service], label=service) for service in services]
    figure.legend(handles=keys, loc="lower center", ncols=len(keys), frameon=False, fontsize=9)
    height = ROW_INCHES * len(rows) + 1.3
    figure.subplots_adjust(left=LABEL_SHARE, right=0.98, top=1 - 0.4 / height, bottom=0.85 / height)
    figure.savefig(path, dpi=110)


def rows_of(spans: Sequence[Told]) -> Iterator[Row]:
    """Each span behind its parent, in the order they began."""
    known = {one.span_id for one in spans}
    below: dict[str, list[Told]] = {}
    for one in sorted(spans, key=lambda one: (one.began_ns, -one.ended_ns)):
        below.setdefault(one.parent_id if one.parent_id in known else "", []).append(one)

    def walk(parent: str, depth: int) -> Iterator[Row]:
        names = [one.name for one in below.get(parent, [])]
        # What shares a row comes last.
        children = sorted(below.get(parent, []), key=lambda one: names.count(one.name) >= MANY)
        names = [one.name for one in children]
        for place, one in enumerate(children):
            if names.count(one.name) < MANY or one.span_id in below:
                yield Row(depth, [one])
                yield from walk(one.span_id, depth + 1)
            elif names.index(one.name) == place:
                yield Row(depth, [other for other in children if other.name == one.name])

    yield from walk("", 0)


def _row(axes: Axes, place: int, row: Row, began: int, colour: str, whole_ms: float) -> None:
    first, last = row.spans[0], row.spans[-1]
    bars = [((one.began_ns - began) / 1e6, (one.ended_ns - one.began_ns) / 1e6) for one in row.spans]
    # What is called elsewhere is hollow: the answer to it is the row below.
    hollow = first.kind == 3
    drawn = [(left, max(width, whole_ms / 500)) for left, width in bars]
    face = "white" if hollow else "#d62728" if first.failed else colour
    edge = "white" if len(row.spans) > 1 else colour
    axes.broken_barh(drawn, (place - 0.32, 0.64), facecolors=face, edgecolors=edge, linewidth=1.0)
    name = first.name.rpartition(".")[2]
    count = f" × {len(row.spans)}" if len(row.spans) > 1 else ""
    call = f" {first.attributes['maas.call.id']}" if "maas.call.id" in first.attributes else ""
    axes.text(
        *(-0.515 + row.depth * 0.018, place),
        f"{name}{call}{count}",
        transform=axes.get_yaxis_transform(),
        va="center",
        fontsize=8.5,
        color=colour,
    )
    end = max((last.ended_ns - began) / 1e6, sum(drawn[-1]))
    within = end - bars[0][0] > WIDE * whole_ms
    axes.annotate(
        _said(row),
        (bars[0][0] if within else end, place),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color="white" if within and not hollow else "#444444",
    )


def _said(row: Row) -> str:
    """How long it took, and what else is worth a word."""
    one, took_ms = row.spans[0], sum(span.ended_ns - span.began_ns for span in row.spans) / 1e6
    words = [f"{took_ms:.2f} ms"]
    words += [f"cache: {one.attributes['maas.cache']}"] if "maas.cache" in one.attributes else []
    items = one.attributes.get("maas.batch.items", 0)
    words += [_many(items, "item")] if items else []
    words += list(dict.fromkeys(one.events))
    others = {trace for span in row.spans for trace, _ in span.links}
    return " · ".join([*words, *([f"linked to {_many(len(others), 'other trace')}"] if others else [])])


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _frame(axes: Axes, rows: int, whole_ms: float, title: str) -> None:
    axes.set_title(title, fontsize=10, loc="left", x=-0.515)
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_xlim(0, whole_ms * 1.01)
    axes.set_xlabel("milliseconds", fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_yticks([])
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
