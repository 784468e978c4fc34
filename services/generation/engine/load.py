"""How an engine stands between two passes, in numbers. Knows no metrics."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from services.generation.engine.engine import Engine
from services.generation.engine.request import Sequence


@dataclass(frozen=True, slots=True)
class Load:
    """waiting: sequences by priority: high (above 0), normal, low. blocks: KV blocks held, cached, blank.

    steps, preemptions, skipped, drafted, accepted: since the engine began.
    """

    waiting: Mapping[str, int]
    blocks: Mapping[str, int]
    steps: int
    preemptions: int
    skipped: int
    drafted: int
    accepted: int


def load(engine: Engine) -> Load:
    """Of `engine`, on its own thread."""
    return Load(
        waiting=_by_priority(engine.scheduler.waiting),
        blocks=engine.scheduler.pool.counts(),
        steps=engine.steps,
        preemptions=engine.scheduler.preemptions,
        skipped=engine.skipped,
        drafted=engine.drafted,
        accepted=engine.accepted,
    )


def _by_priority(waiting: list[Sequence]) -> dict[str, int]:
    """waiting: highest priority first."""
    high = bisect_left(waiting, 0, key=_descending)
    low = len(waiting) - bisect_right(waiting, 0, key=_descending)
    return {"high": high, "normal": len(waiting) - high - low, "low": low}


def _descending(sequence: Sequence) -> int:
    return -sequence.priority
