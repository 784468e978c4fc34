"""A circuit breaker: after faults in a row it stops asking for a while, then lets one try decide. Pure."""

import time
from collections.abc import Callable

Clock = Callable[[], float]


class Breaker:
    """closed → (`faults` in a row) → open → (`open_s` later, one probe) → closed or open again."""

    def __init__(
        self,
        faults: int,
        open_s: float,
        clock: Clock = time.monotonic,
        on_change: Callable[[bool], None] = lambda is_open: None,
    ) -> None:
        self._limit, self._open_s, self._clock, self._on_change = faults, open_s, clock, on_change
        self._faults = 0
        self._retry_at = 0.0

    @property
    def is_open(self) -> bool:
        return self._faults >= self._limit

    def allow(self) -> bool:
        """Whether to try now. While open, one caller per pause is let through."""
        if not self.is_open:
            return True
        if self._clock() < self._retry_at:
            return False
        # The next probe waits its own pause, so this one stays alone.
        self._retry_at = self._clock() + self._open_s
        return True

    def success(self) -> None:
        was_open, self._faults = self.is_open, 0
        if was_open:
            self._on_change(False)

    def fault(self) -> None:
        was_open = self.is_open
        self._faults += 1
        if self.is_open and not was_open:
            self._on_change(True)
        if self.is_open:
            self._retry_at = self._clock() + self._open_s
