"""Calls on their way through a fleet in simulated time, event by event. Knows neither files nor services by name.

All that is at work on a core shares it evenly: an event loop takes its calls a step each in turn, the kernel its
threads. A process that makes batches takes all that waits whenever it is free, up to its most, and lets them go
together. What that costs was measured: by how many they are, by how long it had slept, and by how much one call's
time differs from another's.
"""

import heapq
from collections import Counter
from collections.abc import Sequence

from cli.plan.processes import Call, Core, Process


class Walk:
    """All calls, in order of coming, until the last has left."""

    def __init__(self, processes: Sequence[Process], calls: Sequence[Call]) -> None:
        self._processes, self._calls = processes, calls
        self._cores = {one.core: Core() for one in processes}
        self._ends: list[tuple[float, int, int]] = []  # of a core in such a state, or (-1) of a call's delay
        self._sent: Counter[tuple[int, int]] = Counter()  # by whom, to whom

    def run(self) -> float:
        """Sets when each call leaves and what each process worked; when the last left, in seconds."""
        now = 0.0
        for number, call in enumerate(self._calls):
            while self._ends and self._ends[0][0] <= call.came:
                self._end()
            self._choose(call)
            self._arrive(number, call.came)
        while self._ends:
            now = self._end()
        return now

    def _end(self) -> float:
        now, core, state = heapq.heappop(self._ends)
        if core < 0:
            self._leave(self._calls[state].place, [state], now)
        elif state == self._cores[core].changes:
            place, batch = self._cores[core].first(now)
            if self._to_prepare(place, batch[0]):
                self._calls[batch[0]].ready = True
                self._processes[place].waiting.append(batch[0])
            else:
                self._processes[place].batching = False
                self._leave(place, batch, now)
            self._begin(place, now)
            self._expect(core)
        return now

    def _leave(self, place: int, batch: list[int], now: float) -> None:
        self._processes[place].ended = now
        self._processes[place].present -= len(batch)
        for number in batch:
            call = self._calls[number]
            call.stayed[place] = call.stayed.get(place, 0.0) + now - call.since
            call.step += 1
            if call.step < len(call.way):
                self._arrive(number, now)
            else:
                call.left = now
                self._count(call, -1)

    def _arrive(self, number: int, now: float) -> None:
        call = self._calls[number]
        place = call.chosen[call.way[call.step]]
        process = self._processes[place]
        call.slept.setdefault(place, 0.0 if process.present else now - process.ended)
        call.place, call.since = place, now
        process.present += 1
        if process.delays is not None:
            heapq.heappush(self._ends, (now + process.delays[number % len(process.delays)], -1, number))
        elif self._to_prepare(place, number):
            cost = process.costs[call.kind]
            self._put(place, now, (cost.alone + cost.woken(call.slept[place])) * call.spread, [number])
        else:
            process.waiting.append(number)
            self._begin(place, now)

    def _to_prepare(self, place: int, number: int) -> bool:
        call = self._calls[number]
        return self._processes[place].costs[call.kind].alone > 0 and not call.ready

    def _choose(self, call: Call) -> None:
        """Of each pool on its way, the one with the fewest calls from where it was before."""
        before = -1
        for pool in dict.fromkeys(call.way):
            links = [(before, one) for one in pool]
            before = call.chosen[pool] = min(links, key=self._sent.__getitem__)[1]
        self._count(call, 1)

    def _count(self, call: Call, more: int) -> None:
        before = -1
        for place in call.chosen.values():
            self._processes[place].about += more
            self._sent[before, place] += more
            before = place

    def _begin(self, place: int, now: float) -> None:
        """Puts on its core what can begin."""
        process = self._processes[place]
        if process.batching or not process.waiting:
            return
        batch = [process.waiting.popleft() for _ in range(min(len(process.waiting), process.most))]
        process.batching = process.batched
        length = self._length(process, place, [self._calls[number] for number in batch])
        self._put(place, now, length, batch)

    def _put(self, place: int, now: float, seconds: float, batch: list[int]) -> None:
        process = self._processes[place]
        process.worked += seconds
        self._cores[process.core].add(now, seconds, place, batch)
        self._expect(process.core)

    def _expect(self, core: int) -> None:
        found = self._cores[core]
        if found.jobs:
            heapq.heappush(self._ends, (found.next_end, core, found.changes))

    @staticmethod
    def _length(process: Process, place: int, batch: Sequence[Call]) -> float:
        """Each costs as if all were of its kind; the first wakes the process."""
        costs = [(process.costs[call.kind], call.spread) for call in batch]
        seconds = sum(one.each(len(batch), process.about) * spread for one, spread in costs)
        woke = 0.0 if batch[0].ready else costs[0][0].woken(batch[0].slept[place])
        return seconds + woke * batch[0].spread
