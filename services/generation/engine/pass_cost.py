"""What a pass costs beside its rows, learnt from the passes themselves. Knows no clock and no drafts."""

from dataclasses import dataclass

FIXED_ROWS = 6.0  # a pass of n rows costs as much as n + so many, until it is known better
LEAST, MOST = 4.0, 8.0  # it is measured roughly, and who believes in more drafts in full passes, at a loss
WIDEST_ROWS = 64  # wider passes are prompts
KNOWN_AFTER = 32  # passes of a kind
SHARE = 1 / 32


@dataclass(slots=True)
class Kind:
    """Passes of about as many rows: the mean of these, and the median of their seconds."""

    rows: float
    seconds: float
    count: int = 0

    def took(self, seconds: float, rows: int) -> None:
        """The median is found by small steps, so that a pass that was held up counts no more than another."""
        self.count += 1
        self.rows += SHARE * (rows - self.rows)
        self.seconds *= 1 + SHARE if seconds > self.seconds else 1 - SHARE


class PassCost:
    """A pass reads all weights once, which is what its rows share: seconds ≈ slope · (rows + fixed rows)."""

    def __init__(self) -> None:
        self._kinds: dict[int, Kind] = {}

    def took(self, seconds: float, rows: int) -> None:
        """A pass of so many rows took so long."""
        if rows <= WIDEST_ROWS:
            kind = self._kinds.setdefault(rows.bit_length(), Kind(rows, seconds))
            kind.took(seconds, rows)

    @property
    def fixed_rows(self) -> float:
        """By the line through the narrowest and the widest passes that are known."""
        known = [self._kinds[size] for size in sorted(self._kinds) if self._kinds[size].count >= KNOWN_AFTER]
        if len(known) < 2 or known[-1].seconds <= known[0].seconds:
            return FIXED_ROWS
        slope = (known[-1].seconds - known[0].seconds) / (known[-1].rows - known[0].rows)
        return min(max(known[0].seconds / slope - known[0].rows, LEAST), MOST)
