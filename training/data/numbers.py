"""Numbers and moments out of a table's cells. Knows no table."""

import math
import re
from datetime import UTC, datetime

SECONDS_A_YEAR = 31_556_952  # of the Gregorian calendar's mean year
MONTH = re.compile(r"\d{4}-\d{2}")


def finite(cell: str) -> float | None:
    """The finite number that a cell spells, if it does."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def years(cell: str) -> float | None:
    """An ISO 8601 date, month or time as years of our era, to the second or so; UTC where it names no zone."""
    try:
        when = datetime.fromisoformat(f"{cell}-01" if MONTH.fullmatch(cell) else cell)
    except ValueError:
        return None
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    return 1970 + aware.timestamp() / SECONDS_A_YEAR
