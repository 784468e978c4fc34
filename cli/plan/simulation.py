"""Calls on their way through a fleet in simulated time, event by event. Knows neither files nor services by name.

A process takes all that waits for it at once, up to its most, whenever it and its core are free, and lets them go
together. What that costs was measured: by how many they are, by how long it had slept, and by how much one call's
time differs from another's.
"""

import heapq
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cli.plan.queueing import Array

Pool = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one kind of call at a process, which it comes to `visits` times and pays a part each.

    `batches[b - 1]` are seconds for b of them; `waking[i]` more if it had slept for `gaps[i]`.
    """

    batches: Array
    gaps: Sequence[float] = (0.0,)
    waking: Sequence[float] = (0.0,)
    visits: int = 1

    def woken(self, slept: float) -> float:
        return float(np.interp(slept, self.gaps, self.waking)) if slept > self.gaps[0] else self.waking[0]


@dataclass(slots=True)
class Process:
    """`costs` by kind of call. Processes with the same `core` take turns on it. With `delays` it holds nobody up:
    each stays for one of them.
    """

    core: int
    costs: Mapping[int, Cost]
    delays: Array | None = None
    waiting: deque[int] = field(default_factory=deque)
    present: int = 0
    ended: float = 0.0
    worked: float = 0.0

    @property
    def most(self) -> int:
        return min(len(one.batches) for one in self.costs.values())


@dataclass(slots=True)
class Call:
    """`way`: where it goes, in order; of several processes, that with the fewest calls from where it is.

    `spread` multiplies what it costs those that it wakes or leads. `slept` and `stayed`: seconds by process.
    """

    came: float
    kind: int
    way: Sequence[Pool]
    spread: float = 1.0
    step: int = 0
    place: int = -1
    since: float = 0.0
    left: float = 0.0
    chosen: dict[Pool, tuple[int, int]] = field(default_factory=dict)
    slept: dict[int, float] = field(default_factory=dict)
    stayed: dict[int, float] = field(default_factory=dict)


class Walk:
    """All calls, in order of coming, until the last has left."""

    def __init__(self, processes: Sequence[Process], calls: Sequence[Call]) -> None:
        self._processes, self._calls = processes, calls
        self._turns: dict[int, deque[int]] = {one.core: deque() for one in processes}
        self._running: set[int] = set()
        self._ends: list[tuple[float, int, list[int]]] = []
        self._sent: Counter[tuple[int, int]] = Counter()

    def run(self) -> float:
        """Sets when each call leaves and what each process worked; when the last left, in seconds."""
        now = 0.0
        for number, call in enumerate(self._calls):
            while self._ends and self._ends[0][0] <= call.came:
                self._end()
            self._arrive(number, call.came)
        while self._ends:
            now = self._end()
        return now

    def _end(self) -> float:
        now, place, batch = heapq.heappop(self._ends)
        process = self._processes[place]
        process.ended = now
        process.present -= len(batch)
        for number in batch:
            self._onward(self._calls[number], number, now)
        if process.delays is None:
            self._running.discard(process.core)
            self._begin(process.core, now)
        return now

    def _onward(self, call: Call, number: int, now: float) -> None:
        call.stayed[call.place] = call.stayed.get(call.place, 0.0) + now - call.since
        self._sent[call.chosen[call.way[call.step]]] -= 1
        call.step += 1
        if call.step < len(call.way):
            self._arrive(number, now)
        else:
            call.left = now

    def _arrive(self, number: int, now: float) -> None:
        call = self._calls[number]
        place = self._choose(call)
        process = self._processes[place]
        call.slept.setdefault(place, 0.0 if process.present else now - process.ended)
        call.place, call.since = place, now
        process.present += 1
        if process.delays is not None:
            wait = process.delays[number % len(process.delays)]
            return heapq.heappush(self._ends, (now + wait, place, [number]))
        if not process.waiting:
            self._turns[process.core].append(place)
        process.waiting.append(number)
        return self._begin(process.core, now)

    def _choose(self, call: Call) -> int:
        """Of a pool, the one with the fewest calls from where this one is. A call comes back to where it was."""
        pool = call.way[call.step]
        if pool not in call.chosen:
            call.chosen[pool] = min(((call.place, one) for one in pool), key=lambda link: self._sent[link])
        self._sent[call.chosen[pool]] += 1
        return call.chosen[pool][1]

    def _begin(self, core: int, now: float) -> None:
        turns = self._turns[core]
        if core in self._running or not turns:
            return
        place = turns.popleft()
        process = self._processes[place]
        batch = [process.waiting.popleft() for _ in range(min(len(process.waiting), process.most))]
        if process.waiting:
            turns.append(place)
        length = self._length(process, place, [self._calls[number] for number in batch])
        process.worked += length
        self._running.add(core)
        heapq.heappush(self._ends, (now + length, place, batch))

    @staticmethod
    def _length(process: Process, place: int, batch: Sequence[Call]) -> float:
        """A batch of several kinds costs the mean of what as many of each would; the first wakes the process."""
        count, first = len(batch), batch[0]
        costs = [process.costs[call.kind] for call in batch]
        seconds = sum(one.batches[count - 1] / one.visits for one in costs) / count
        return float((seconds + costs[0].woken(first.slept[place]) / costs[0].visits) * first.spread)
