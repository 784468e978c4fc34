"""Labelled texts in memory: what one row is, which rows are copies. Knows no files and no tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class TextRow:
    """A text, its class ("" = not told), the group of each slice it names, and where it was found."""

    text: str
    label: str = ""
    groups: dict[str, str] = field(default_factory=dict)
    where: str = ""


def slices(rows: Sequence[TextRow]) -> dict[str, list[str]]:
    """Slice → the group of each row; "unknown" for a row that does not say."""
    names = sorted({name for row in rows for name in row.groups})
    return {name: [row.groups.get(name) or UNKNOWN for row in rows] for name in names}


def words(text: str) -> str:
    """What copies of a text share: letters and signs, whatever their case and the blanks between them."""
    return " ".join(text.casefold().split())


def without_copies(rows: Sequence[TextRow], left_out: dict[str, list[str]]) -> list[TextRow]:
    """The first of each text; `left_out` grows by those that say nothing or were there before."""
    seen: dict[str, TextRow] = {}
    for row in rows:
        first = seen.setdefault(words(row.text), row)
        if not words(row.text):
            left_out.setdefault("without text", []).append(row.where)
        elif first is not row:
            kind = "an earlier row" if first.label == row.label else "a row of another class"
            left_out.setdefault(f"copy of {kind}", []).append(f"{row.where} = {first.where}")
    return [row for key, row in seen.items() if key]
