"""How a replica behaves: after faults in a row it is left out for a while, then comes back gently. Pure.

A circuit breaker that tells load from failure: what it sheds eases it, and is no fault.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

FAULTS_IN_A_ROW = 5
OUT_S, LONGEST_OUT_S = 10.0, 60.0
EASED_S = 1.0
GENTLE_S, LEAST_SHARE = 5.0, 0.1


@dataclass(slots=True)
class Standing:
    """Of one replica. Left out again, it is left out longer, until it behaved for LONGEST_OUT_S."""

    clock: Callable[[], float] = time.monotonic
    _row: int = 0
    _times: int = 0
    _back_at: float = -math.inf
    _eased_until: float = -math.inf

    @property
    def out(self) -> bool:
        """Whether it should get no call while others can."""
        return self._back_at > self.clock()

    @property
    def share(self) -> float:
        """Of the load of an old replica, what a fresh one takes: from LEAST_SHARE to 1 over GENTLE_S.

        In steps of a tenth: those that began together take turns. Those left out, should they be needed, take all.
        """
        now = self.clock()
        age_s = now - self._back_at
        whole = 1.0 if not 0 <= age_s < GENTLE_S else max(LEAST_SHARE, math.floor(10 * age_s / GENTLE_S) / 10)
        return whole * LEAST_SHARE if now < self._eased_until else whole

    def begin(self) -> None:
        """It serves anew: what was before does not count, and it is warm only in part."""
        self._row = self._times = 0
        self._back_at, self._eased_until = self.clock(), -math.inf

    def good(self) -> None:
        """It answered."""
        self._row = 0

    def fault(self) -> None:
        """It failed, or did not answer."""
        self._row += 1
        if self._row >= FAULTS_IN_A_ROW and not self.out:
            self._leave_out()

    def ease(self, seconds: float = EASED_S) -> None:
        """It has too much to do, as it said or as another was faster: no fault, but others get more meanwhile."""
        self._eased_until = max(self._eased_until, self.clock() + min(seconds, OUT_S))

    def _leave_out(self) -> None:
        now = self.clock()
        self._times = 1 if now - self._back_at > LONGEST_OUT_S else self._times + 1
        self._back_at = now + min(OUT_S * self._times, LONGEST_OUT_S)
        self._row = 0
