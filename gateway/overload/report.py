"""What the gates of the services and their replicas tell → the metrics table. No call pays for it."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

from gateway.backends import EJECTED, SERVING, Backend
from services.runtime.metrics import Metrics

EVERY_S = 1.0


class OverloadMetrics:
    """Gauges as they stand; counters by what was added since the last look."""

    def __init__(self, metrics: Metrics, backends: Iterable[Backend]) -> None:
        self._metrics, self._backends = metrics, tuple(backends)
        self._told: Counter[tuple[str, ...]] = Counter()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """The last look."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.tell()

    def tell(self) -> None:
        """Looks once."""
        for backend in self._backends:
            self._gauges(backend)
            self._counts(backend)

    async def _run(self) -> None:
        while True:
            self.tell()
            await asyncio.sleep(EVERY_S)

    def _gauges(self, backend: Backend) -> None:
        name, gate, table = backend.name, backend.gate, self._metrics
        table.backend_limit.labels(name).set(gate.limit.calls)
        for state, calls in (("short", gate.in_flight), ("long", gate.long), ("queued", gate.queued)):
            table.backend_calls.labels(name, state).set(calls)
        ejected = sum(one.health == SERVING and one.standing.out for one in backend.replicas)
        serving = len(backend.healthy) - ejected
        away = len(backend.replicas) - serving - ejected
        for health, count in ((SERVING, serving), (EJECTED, ejected), ("AWAY", away)):
            table.backend_replicas.labels(name, health.lower()).set(count)

    def _counts(self, backend: Backend) -> None:
        name, gate, table = backend.name, backend.gate, self._metrics
        for (priority, reason), count in gate.refusals.counts.items():
            self._add(table.backend_refused, count, name, priority.name.lower(), reason)
        self._add(table.backend_shed, sum(one.sheds for one in backend.replicas), name)
        self._add(table.backend_lowered, gate.lowered, name)
        self._add(table.hedges, gate.hedges, name, "sent")
        self._add(table.hedges, gate.hedges_won, name, "won")

    def _add(self, counter: Any, total: int, *labels: str) -> None:
        key = (counter.describe()[0].name, *labels)
        # A replica that left takes its count along: what was told stays.
        if total > self._told[key]:
            counter.labels(*labels).inc(total - self._told[key])
        self._told[key] = total
