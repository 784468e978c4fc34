"""How much a service may have in flight: what keeps it busy, and no more than that waits inside it. Pure.

The gradient limit of github.com/Netflix/concurrency-limits: after every round of answers,
limit ← limit × gradient + √limit, where gradient, from ½ to 1, is what the answers may take over what they took.
There, they may take a multiple of the least latency seen; here, that and DELAY_S, as in LEDBAT (RFC 6817), since
services batch: twice the latency can be twice the rate.
"""

import math
from dataclasses import dataclass

# Of waiting inside the service: enough to fill its batches, little beside what callers wait for.
DELAY_S = 0.15
LEAST_GRADIENT, SHED_GRADIENT = 0.5, 0.9
# A round is as many answers as fit in flight, or what came in this time.
ROUND_S = 1.0


@dataclass(slots=True)
class _Round:
    """Answers so far, what they took and may have taken (seconds), and the most that was in flight meanwhile."""

    began: float = -math.inf
    answers: int = 0
    took: float = 0.0
    may: float = 0.0
    in_flight: int = 0
    shed: bool = False


class Limit:
    """Between `floor` and `ceiling`; grows only while at least half of it is used."""

    def __init__(self, floor: int, ceiling: int, start: int = 32) -> None:
        self.floor, self.ceiling = floor, max(floor, ceiling)
        self._exact = float(min(max(start, floor), self.ceiling))
        self._mean_s, self._ended = 0.0, -math.inf
        self._round = _Round()

    @property
    def calls(self) -> int:
        """In flight at once."""
        return int(self._exact)

    def mean_s(self, now: float) -> float:
        """Of the answers in the last round; 0 if it ended long ago."""
        return self._mean_s if now - self._ended < 2 * ROUND_S else 0.0

    def took(self, seconds: float, least_s: float, in_flight: int, now: float) -> bool:
        """An answer that took `seconds`, with so many in flight, and `least_s` without waiting.

        True: that ended a round.
        """
        this = self._round
        this.answers += 1
        this.took += seconds
        this.may += least_s + DELAY_S
        this.in_flight = max(this.in_flight, in_flight)
        if this.answers < self._exact and now - this.began < ROUND_S:
            return False
        self._review(this)
        self._mean_s, self._ended = this.took / this.answers, now
        self._round = _Round(now)
        return True

    def shed(self) -> None:
        """The service refused a call for its load."""
        self._round.shed = True

    def collapse(self) -> None:
        """To the floor, from where it grows again: the least latency shows itself where little is in flight."""
        self._exact = float(self.floor)

    def _review(self, this: _Round) -> None:
        gradient = min(1.0, max(LEAST_GRADIENT, this.may / this.took)) if this.took else 1.0
        if this.shed:
            wanted = self._exact * min(gradient, SHED_GRADIENT)
        elif gradient < 1 or 2 * this.in_flight >= self._exact:
            wanted = self._exact * gradient + math.sqrt(self._exact)
        else:
            return
        self._exact = min(max(wanted, float(self.floor)), float(self.ceiling))
