"""How `maas top` looks. Knows no socket and no file."""

from collections.abc import Callable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.board import coloured
from cli.render import table
from cli.top.figures import Figures

NONE = "–"
# Columns that one table of everything takes, and how many of its columns tell of calls.
WIDE, SPLIT = 150, 6
Row = tuple[str, Callable[[Figures], str]]
ROWS: Sequence[Row] = (
    ("calls/s", lambda f: f"{f.calls_per_s:,.1f}"),
    ("failing", lambda f: share(f.failing)),
    ("p50", lambda f: seconds(f.p50_s)),
    ("p99", lambda f: seconds(f.p99_s)),
    ("inside", lambda f: f"{f.inside:.0f}"),
    ("queue", lambda f: f"{f.queued:.0f}"),
    ("hits", lambda f: share(f.hits)),
    ("tokens/s", lambda f: NONE if f.tokens_per_s is None else f"{f.tokens_per_s:,.1f}"),
    ("first", lambda f: seconds(f.first_token_s)),
    ("KV", lambda f: share(f.kv_held)),
    ("sessions", lambda f: NONE if f.sessions is None else f"{f.sessions:.0f}"),
    ("CPU", lambda f: share(f.cpu)),
    ("memory", lambda f: f"{f.memory_bytes / 2**20:,.0f} MiB"),
)


def frame(found: Mapping[str, tuple[str, str, Figures | None]], note: str, width: int = WIDE) -> RenderableType:
    """By name: address, health, figures (None = it does not answer). In two tables without
    addresses where one is too wide."""
    parts = [ROWS] if width >= WIDE else [ROWS[:SPLIT], ROWS[SPLIT:]]
    return Group(*(_table(found, part, len(parts) == 1) for part in parts), Text(note, style="dim"))


def _table(found: Mapping[str, tuple[str, str, Figures | None]], rows: Sequence[Row], wide: bool) -> Table:
    names = [name for name, _ in rows]
    lines = [
        [name, *([address] if wide else []), coloured(health), *(tell(told) if told else NONE for _, tell in rows)]
        for name, (address, health, told) in found.items()
    ]
    return table(["program", *(["address"] if wide else []), "health", *names], lines, right=names)


def share(value: float | None) -> str:
    return NONE if value is None else f"{value:.0%}" if value == 0 or value >= 0.1 else f"{value:.1%}"


def seconds(value: float | None) -> str:
    """Two or three digits that matter."""
    if value is None:
        return NONE
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1000:.0f} ms" if value >= 0.1 else f"{value * 1000:.1f} ms"
