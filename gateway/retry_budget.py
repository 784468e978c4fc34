"""What tries beyond the first may cost a service: a share of its calls, so that no retry storm comes. Pure."""

SHARE = 0.2  # of the calls
MOST = 1024.0  # at once: more calls than a gateway carries, all of which a dying replica may lose


class RetryBudget:
    """A bucket that every call fills a little and every further try empties by one; full at first."""

    def __init__(self, share: float = SHARE, most: float = MOST) -> None:
        self._share, self._most, self._left = share, most, most

    def earn(self) -> None:
        """A call came."""
        self._left = min(self._left + self._share, self._most)

    def spend(self) -> bool:
        """Takes one further try. False if there is none left."""
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def spare(self) -> bool:
        """Takes one as `spend` does, but leaves half for calls that failed."""
        return self._left > self._most / 2 and self.spend()
