"""Counts what the cache did, for GetStatus and for Prometheus."""

from collections import Counter

from services.runtime.metrics import Metrics

HIT_L1, HIT_L2, MISS, COALESCED, BYPASS = "hit-l1", "hit-l2", "miss", "coalesced", "bypass"


class CacheStats:
    """One count per answered call and outcome, and the faults of Redis that became misses."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.outcomes: Counter[str] = Counter()
        self._counts = {one: metrics.cache.labels(one) for one in (HIT_L1, HIT_L2, MISS, COALESCED, BYPASS)}
        self.faults = 0
        self.unopened = 0

    def count(self, outcome: str) -> None:
        self.outcomes[outcome] += 1
        self._counts[outcome].inc()

    def fault(self) -> None:
        self.faults += 1
        self._metrics.cache_faults.inc()

    def unopen(self) -> None:
        """A value of Redis did not open: plain, changed, another key's, or another cache key's."""
        self.unopened += 1
        self._metrics.cache_unopened.inc()

    def breaker(self, is_open: bool) -> None:
        self._metrics.breaker_open.labels("redis").set(is_open)
