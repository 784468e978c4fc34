"""The least time that work can take, by the best speeds measured so far. Knows no deadlines and no clock."""

import math

KNOWN_AFTER = 32  # passes measured before anything is foretold


class Estimate:
    """Best times, not means: a machine that is busy now may be free soon, but not faster than it ever was.

    full: prompt tokens of a pass that is full; only such passes tell what a prompt token costs at least.
    """

    def __init__(self, full: int) -> None:
        self._full = full
        self._passes = 0
        self._pass_s = math.inf
        self._row_s = math.inf

    def took(self, seconds: float, rows: int) -> None:
        """A pass over `rows` tokens took so long."""
        self._passes += 1
        self._pass_s = min(self._pass_s, seconds)
        if rows >= self._full:
            self._row_s = min(self._row_s, seconds / rows)

    def least_s(self, rows: int, passes: int = 0) -> float:
        """Seconds for `rows` prompt tokens and so many passes after them, were there nothing else to do."""
        if self._passes < KNOWN_AFTER:
            return 0.0
        prompt = -(-rows // self._full) * self._pass_s
        if math.isfinite(self._row_s):
            prompt = max(prompt, rows * self._row_s)
        return prompt + passes * self._pass_s
