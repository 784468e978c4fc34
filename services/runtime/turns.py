"""Long work on a device, a part at a time, so that other callers get their turns between. Knows no tensors."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from services.runtime.batcher import Outcome
from services.runtime.device import DeviceThread
from services.runtime.errors import DeadlinePassed, Overloaded

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class Turn:
    """One caller's work. `deadline` and `began` are time.monotonic() seconds."""

    device: DeviceThread
    deadline: float | None
    began: float = field(default_factory=time.monotonic)
    parts: int = 0
    compute_s: float = 0.0

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The next part, behind whatever waits for the device. Raises DeadlinePassed before it begins."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise DeadlinePassed(f"the deadline passed after {self.parts} parts of the work; ask for fewer steps")
        value, seconds = await self.device.run(_timed, lambda: function(*args, **kwargs))
        self.parts += 1
        self.compute_s += seconds
        return value

    def outcome(self, value: T) -> Outcome[T]:
        """`value` with the time its parts computed; the rest of the time they waited."""
        waited = time.monotonic() - self.began - self.compute_s
        return Outcome(value, waited * 1000, self.compute_s * 1000, 1)


class Turns:
    """At most `limit` callers work at once; each holds the device for a part only."""

    def __init__(self, device: DeviceThread, limit: int) -> None:
        self._device, self._limit = device, limit
        self._inside = 0

    @contextmanager
    def take(self, deadline: float | None) -> Iterator[Turn]:
        """Raises Overloaded when `limit` others are at work."""
        if self._inside >= self._limit:
            raise Overloaded(
                f"{self._inside} explanations are at work, the limit; retry later",
                reason="QUEUE_FULL",
                retry_after_s=1.0,
            )
        self._inside += 1
        try:
            yield Turn(self._device, deadline)
        finally:
            self._inside -= 1


def _timed(function: Callable[[], T]) -> tuple[T, float]:
    began = time.monotonic()
    return function(), time.monotonic() - began
