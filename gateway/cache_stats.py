"""Counts what the cache did, for GetStatus and for Prometheus."""

from collections import Counter
from typing import Any

from services.runtime.context import current
from services.runtime.metrics import Metrics

HIT_L1, HIT_L2, MISS, COALESCED, BYPASS = "hit-l1", "hit-l2", "miss", "coalesced", "bypass"
# Answers that nothing was computed for.
REMEMBERED = frozenset({HIT_L1, HIT_L2, COALESCED})


class CacheStats:
    """One count per answered call and outcome, and the faults of Redis that became misses."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.outcomes: Counter[str] = Counter()
        # By outcome and model: finding an instrument costs more than using it.
        self._counts: dict[tuple[str, str], Any] = {}
        self._ages: dict[tuple[str, str], Any] = {}
        self.faults = 0
        self.unopened = 0

    def count(self, outcome: str, model: str = "", age_s: float = 0.0) -> None:
        """`model`: by its name in the store, "" = of none in particular; `age_s`: of a hit's answer."""
        self.outcomes[outcome] += 1
        if (span := current().span) is not None:
            span.note("maas.cache", outcome)
        place = outcome, model
        if place not in self._counts:
            self._counts[place] = self._metrics.cache.labels(*place)
            self._ages[place] = self._metrics.cache_age.labels(*place) if outcome in (HIT_L1, HIT_L2) else None
        self._counts[place].inc()
        if (ages := self._ages[place]) is not None:
            ages.observe(age_s)

    def fault(self) -> None:
        self.faults += 1
        self._metrics.cache_faults.inc()

    def unopen(self) -> None:
        """A value of Redis did not open: plain, changed, another key's, or another cache key's."""
        self.unopened += 1
        self._metrics.cache_unopened.inc()

    def breaker(self, is_open: bool) -> None:
        self._metrics.breaker_open.labels("redis").set(is_open)
