"""Processes and calls as they are simulated: what each costs, where each is. Lets no time pass but a core's."""

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cli.plan.queueing import Array

Pool = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one kind of call at a process, which it comes to `visits` times and pays a part each.

    `batches[b - 1]` are seconds for b of them: in a batch, or else (not `batched`) on their way through it at the
    same time, `alone` of it each by itself, before it joins. `waking[i]` more after a sleep of `gaps[i]`.
    """

    batches: Array
    gaps: Sequence[float] = (0.0,)
    waking: Sequence[float] = (0.0,)
    visits: int = 1
    batched: bool = True
    alone: float = 0.0

    def woken(self, slept: float) -> float:
        """Seconds of a visit."""
        found = np.interp(slept, self.gaps, self.waking) if slept > self.gaps[0] else self.waking[0]
        return float(found) / self.visits

    def each(self, together: int, about: int) -> float:
        """Seconds of a visit, of one of so many in a batch and so many on their way."""
        count = min(together if self.batched else about, len(self.batches))
        return max(0.0, float(self.batches[count - 1]) / count - self.alone) / self.visits


@dataclass(slots=True)
class Core:
    """Shared evenly by the jobs on it: `pace` is what each has had, were it there from the beginning."""

    jobs: list[tuple[float, int, int, list[int]]] = field(default_factory=list)
    pace: float = 0.0
    since: float = 0.0
    changes: int = 0

    def add(self, now: float, seconds: float, place: int, batch: list[int]) -> None:
        self.go_on(now)
        self.changes += 1
        heapq.heappush(self.jobs, (self.pace + seconds, self.changes, place, batch))

    def first(self, now: float) -> tuple[int, list[int]]:
        """Ends the job that ends next: whose it was, and its calls."""
        self.go_on(now)
        self.changes += 1
        _, _, place, batch = heapq.heappop(self.jobs)
        return place, batch

    def go_on(self, now: float) -> None:
        self.pace += (now - self.since) / max(1, len(self.jobs))
        self.since = now

    @property
    def next_end(self) -> float:
        return self.since + max(0.0, self.jobs[0][0] - self.pace) * len(self.jobs)


@dataclass(slots=True)
class Process:
    """`costs` by kind of call. With `delays` it holds nobody up: each stays for one of them."""

    core: int
    costs: Mapping[int, Cost]
    delays: Array | None = None
    waiting: deque[int] = field(default_factory=deque)
    present: int = 0
    about: int = 0
    batching: bool = False
    ended: float = 0.0
    worked: float = 0.0

    @property
    def batched(self) -> bool:
        return any(one.batched for one in self.costs.values())

    @property
    def most(self) -> int:
        return min(len(one.batches) for one in self.costs.values())


@dataclass(slots=True)
class Call:
    """`way`: where it goes, in order; of several processes, that with the fewest calls from where it is.

    `spread` multiplies its part of what a batch costs. `slept` and `stayed`: seconds by process.
    """

    came: float
    kind: int
    way: Sequence[Pool]
    spread: float = 1.0
    step: int = 0
    place: int = -1
    since: float = 0.0
    left: float = 0.0
    ready: bool = False
    chosen: dict[Pool, int] = field(default_factory=dict)
    slept: dict[int, float] = field(default_factory=dict)
    stayed: dict[int, float] = field(default_factory=dict)
