"""Whose turn it is: priority, then the tenant served least, then arrival. Knows no blocks and no clock.

Virtual token counters: Sheng et al., Fairness in Serving Large Language Models, 2023, algorithm 2.
"""

from collections import defaultdict, deque
from collections.abc import Collection, Iterable

from services.generation.engine.request import Sequence

INPUT_WEIGHT, OUTPUT_WEIGHT = 1, 2  # of a token, as in the paper
QUANTUM = 64  # prompt tokens computed at a time before the next turn


class Shares:
    """What each tenant was served, in weighted tokens. Cached tokens and computing anew cost nothing.

    An idle tenant saves up no credit: when it comes back it is lifted to the least of those that wait.
    """

    def __init__(self) -> None:
        self._served: dict[str, int] = {}
        self._floor = 0  # of the tenants that are not remembered
        self._last = ""  # tenant that was admitted last

    def of(self, tenant: str) -> int:
        """Weighted tokens, lifts included."""
        return self._served.get(tenant, self._floor)

    def arrive(self, tenant: str, waiting: Collection[str]) -> None:
        """A request of `tenant` joins those of the tenants in `waiting`."""
        if tenant in waiting:
            return
        floor = min(map(self.of, waiting)) if waiting else self.of(self._last)
        if not waiting:
            self._forget(floor)
        self._served[tenant] = max(self.of(tenant), floor)

    def _forget(self, floor: int) -> None:
        """Whoever comes back is lifted to the floor, so smaller counters need not be kept."""
        self._floor = floor
        self._served = {tenant: served for tenant, served in self._served.items() if served > floor}

    def admit(self, sequence: Sequence, cached: int) -> None:
        """The sequence leaves the queue; its first `cached` tokens need no computing."""
        self._last = sequence.request.tenant
        sequence.charged = max(sequence.charged, cached)

    def charge(self, sequence: Sequence, end: int) -> None:
        """The tokens before position `end` will have been computed: those that never were are paid now."""
        prompt, before = len(sequence.request.prompt), sequence.charged
        sequence.charged = after = max(before, end)
        inputs = min(after, prompt) - min(before, prompt)
        cost = INPUT_WEIGHT * inputs + OUTPUT_WEIGHT * (after - before - inputs)
        self._served[sequence.request.tenant] = self.of(sequence.request.tenant) + cost


class Turns:
    """Sequences in line, one line for each tenant of each priority, in the order of arrival."""

    def __init__(self, shares: Shares, ordered: Iterable[Sequence]) -> None:
        self._shares = shares
        self._lines: defaultdict[tuple[int, str], deque[Sequence]] = defaultdict(deque)
        for sequence in ordered:
            self._lines[_line(sequence)].append(sequence)

    def __bool__(self) -> bool:
        return bool(self._lines)

    def next(self) -> Sequence:
        """Whose turn it is now; it stays in line until `leave`."""
        return min((line[0] for line in self._lines.values()), key=self._rank)

    def _rank(self, sequence: Sequence) -> tuple[int, int, int, int]:
        priority, arrival, index = sequence.order
        return priority, self._shares.of(sequence.request.tenant), arrival, index

    def leave(self, sequence: Sequence) -> None:
        """The first of its line gets no further turn."""
        line = self._lines[_line(sequence)]
        line.popleft()
        if not line:
            del self._lines[_line(sequence)]


def _line(sequence: Sequence) -> tuple[int, str]:
    return sequence.priority, sequence.request.tenant
