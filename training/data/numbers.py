"""Numbers and moments out of a table's cells. Knows no table."""

import re
from datetime import UTC, datetime

MOST = 1e30  # beyond, squares and sums leave what float32 and float64 hold
MONTH = re.compile(r"\d{4}-\d{2}")


def finite(cell: str) -> float | None:
    """The finite number of a size to compute with that a cell spells, if it does."""
    try:
        value = float(cell.replace("_", "?"))  # Python would read 1_2 as 12
    except ValueError:
        return None
    return value if abs(value) <= MOST else None


def years(cell: str) -> float | None:
    """An ISO 8601 date, month or time as a year and its part that is over; UTC where it names no zone."""
    try:
        when = datetime.fromisoformat(f"{cell}-01" if MONTH.fullmatch(cell) else cell)
        aware = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
        start, end = (datetime(year, 1, 1, tzinfo=UTC) for year in (aware.year, aware.year + 1))
    except (ValueError, OverflowError):
        return None
    return aware.year + (aware - start) / (end - start)
