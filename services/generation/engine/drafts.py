"""Guesses of what a sequence says next, found in what it has said: prompt lookup (Saxena 2023). No torch.

A guess costs a row of the next pass and saves a pass if it comes true; it never changes what is chosen.
"""

from collections.abc import Sequence
from math import log

ORDERS = (4, 3, 2)  # tokens that must have occurred before; the longer tell more
MOST = 11  # with the token before them, as many rows as the kernels hold in registers
MARGIN = 1.2  # a guess must save so much more than its row costs: trust and costs are estimates
FIRST_TRUST, LEARNING_RATE = 0.5, 0.25
HIGHEST_TRUST = 0.95


class Drafter:
    """Foretells one sequence. Every guess is judged, made use of or not, so trust is gained at no cost."""

    def __init__(self) -> None:
        self._follows: dict[tuple[int, ...], int] = {}  # some tokens → the place after they occurred last
        self._read = 0
        self._foretold: list[int] = []
        self._trust = FIRST_TRUST

    def propose(self, tokens: Sequence[int], share: float, most: int) -> list[int]:
        """At most `most` tokens to follow `tokens`, which only ever grow. `share`: of the costs of a pass, that of
        its rows; as likely must a guess be to be worth a row more."""
        cost = MARGIN * share
        if cost >= HIGHEST_TRUST:
            return []
        self._judge(tokens)
        self._learn(tokens)
        self._foretold = self._look_up(tokens)
        return self._foretold[: max(min(self._worth(cost), most), 0)]

    def _judge(self, tokens: Sequence[int]) -> None:
        for guess, token in zip(self._foretold, tokens[self._read :], strict=False):
            self._trust += LEARNING_RATE * ((guess == token) - self._trust)
            if guess != token:
                return

    def _learn(self, tokens: Sequence[int]) -> None:
        for order in ORDERS:
            for place in range(max(self._read, order), len(tokens)):
                self._follows[tuple(tokens[place - order : place])] = place
        self._read = len(tokens)

    def _look_up(self, tokens: Sequence[int]) -> list[int]:
        """What followed last time; where that runs into the present, it goes on repeating itself."""
        known = (self._follows.get(tuple(tokens[-order:])) for order in ORDERS)
        start = next((place for place in known if place is not None), None)
        if start is None:
            return []
        found = list(tokens[start : start + MOST])
        while len(found) < MOST:
            found.append(found[start - len(tokens)])
        return found

    def _worth(self, cost: float) -> int:
        """Guesses that save more than they cost: those that are all true with such a likelihood."""
        trust = min(self._trust, HIGHEST_TRUST)
        return int(log(cost) / log(trust)) if trust > cost else 0
