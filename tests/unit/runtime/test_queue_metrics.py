"""A batcher's depth, waits and skips reach the metrics table."""

import asyncio

import pytest

from services.runtime.batcher import MicroBatcher
from services.runtime.errors import DeadlinePassed
from services.runtime.metrics import Metrics
from services.runtime.queue_metrics import QueueMetrics


async def at_once(run: object, items: list[int]) -> list[int]:
    return run(items)  # type: ignore[operator, no-any-return]


async def test_batches_and_skips_are_counted() -> None:
    metrics = Metrics()
    batcher: MicroBatcher[int, int] = MicroBatcher(
        lambda items: [item * 2 for item in items],
        execute=at_once,
        budget=8,
        observer=QueueMetrics(metrics, "net"),
    )
    answers = await asyncio.gather(*(batcher.submit(n) for n in range(5)))
    with pytest.raises(DeadlinePassed):
        await batcher.submit(9, deadline=0.0)

    def sample(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"queue": "net", **labels})

    assert [answer.value for answer in answers] == [0, 2, 4, 6, 8]
    assert sample("maas_batch_size_sum") == 5 == sample("maas_queue_seconds_count")
    assert sample("maas_batch_size_count") == sample("maas_compute_seconds_count") == 2  # the first, then the rest
    assert sample("maas_skipped_total", why="deadline") == 1
    assert sample("maas_queue_depth") == 0
