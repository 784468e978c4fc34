"""Guesses of what a sequence says next, found in what it has said: prompt lookup (Saxena 2023). No torch.

A guess costs a row of the next pass and saves a pass if it comes true; it never changes what is chosen.
"""

from collections.abc import Sequence
from math import log

ORDERS = (4, 3, 2)  # tokens that must have occurred before; the longer tell more
MOST = 11  # with the token before them, as many rows as the kernels hold in registers
FIXED_ROWS = 6  # a pass of n rows costs as much as n + so many, at least
MARGIN = 1.25  # a guess is worth its row if it saves so much more: trust is an estimate
FIRST_TRUST, LEARNING_RATE = 0.5, 0.25
HIGHEST_TRUST = 0.95


class Drafter:
    """Foretells one sequence. Every guess is judged, made use of or not, so trust is gained at no cost."""

    def __init__(self) -> None:
        self._follows: dict[tuple[int, ...], int] = {}  # some tokens → the place after they occurred last
        self._read = 0
        self._foretold: list[int] = []
        self._trust = FIRST_TRUST

    def propose(self, tokens: Sequence[int], rows: int, most: int) -> list[int]:
        """At most `most` tokens to follow `tokens`, which only ever grow, in a pass that has `rows` rows."""
        if _cost(rows) >= HIGHEST_TRUST:
            return []
        self._judge(tokens)
        self._learn(tokens)
        self._foretold = self._look_up(tokens)
        return self._foretold[: max(min(self._worth(rows), most), 0)]

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

    def _worth(self, rows: int) -> int:
        """Guesses that save more than they cost: those likelier to come true than a row is part of the pass."""
        cost = _cost(rows)
        trust = min(self._trust, HIGHEST_TRUST)
        return int(log(cost) / log(trust)) if trust > cost else 0


def _cost(rows: int) -> float:
    """How likely a guess must be to come true that is one more row of a pass of so many."""
    return MARGIN * rows / (rows + FIXED_ROWS)
