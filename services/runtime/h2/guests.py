"""How many connections there may be, in all and of one address. Pure."""

from collections import Counter


class Guests:
    """0 = as many as come."""

    def __init__(self, most: int = 0, most_of_one: int = 0) -> None:
        self._most, self._most_of_one = most, most_of_one
        self._of: Counter[str] = Counter()
        self._all = 0

    def alike(self) -> "Guests":
        """A house of its own with the same bounds."""
        return Guests(self._most, self._most_of_one)

    def admit(self, address: str) -> bool:
        """Whether one more may stay; who may is to be told of when it leaves."""
        full = bool(self._most) and self._all >= self._most
        if full or (self._most_of_one and self._of[address] >= self._most_of_one):
            return False
        self._all += 1
        self._of[address] += 1
        return True

    def leave(self, address: str) -> None:
        """One that was admitted is gone."""
        self._all -= 1
        self._of[address] -= 1
        if not self._of[address]:
            del self._of[address]
