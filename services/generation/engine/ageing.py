"""Nobody waits for ever: of each priority that got nothing for a period one request rises. No clock, no blocks.

One, not all that wait: a long queue of low ones must not take every place the moment it may. Of a priority that
is served nobody rises: its tenants have their shares, and its places come free. Nobody rises above the highest
that is there, so the risen push nobody out of that; nobody falls again, so these never push them out again.
"""

from collections import defaultdict
from collections.abc import Iterable

from services.generation.engine.fairness import Shares, Turns
from services.generation.engine.request import Sequence
from services.generation.engine.step import Step


class Ageing:
    """Which priorities, as they were asked for, were there in a period, and of which something was computed."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._ends = 0.0
        self._there: set[int] = set()  # when the period began
        self._served: set[int] = set()

    def computed(self, step: Step) -> None:
        """These get their part."""
        self._served.update(chunk.sequence.request.priority for chunk in step.chunks)

    def over(self, now: float) -> bool:
        """Whether a period ends; `now` in seconds."""
        return now >= self._ends

    def rise(self, now: float, everyone: Iterable[Sequence], shares: Shares) -> None:
        """Ends the period: raises requests by one. `everyone` is in their order."""
        asked: defaultdict[int, list[Sequence]] = defaultdict(list)
        for sequence in everyone:
            asked[sequence.request.priority].append(sequence)
        top = max((one.priority for group in asked.values() for one in group), default=0)
        for starved in self._there & asked.keys() - self._served:
            chosen = Turns(shares, asked[starved]).next()
            for sequence in asked[starved]:
                if sequence.request is chosen.request:
                    sequence.priority = min(sequence.priority + 1, top)
        self._there, self._served, self._ends = set(asked), set(), now + self._period_s
