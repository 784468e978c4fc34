"""How long a runner takes for inputs, one call after another. Knows no service."""

import statistics
import time
from collections.abc import Sequence

from services.runtime.runners.base import Arrays, Runner

REPEATS = 5


def times(runner: Runner, samples: Sequence[Arrays]) -> list[float]:
    """Median milliseconds of a call with each sample."""
    return [round(_median_ms(runner, sample), 3) for sample in samples]


def _median_ms(runner: Runner, sample: Arrays) -> float:
    taken = [once(runner, sample) for _ in range(REPEATS + 1)]
    return statistics.median(taken[1:])  # the first run warms up and is dropped


def once(runner: Runner, sample: Arrays) -> float:
    """Milliseconds of a single call."""
    started = time.perf_counter()
    runner.run(sample)
    return (time.perf_counter() - started) * 1000
