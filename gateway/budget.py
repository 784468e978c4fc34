"""How many bytes calls made as one may copy and hold. Pure."""

from services.runtime.errors import Overloaded


class Budget:
    """Counts what they copy and reply: a few short requests must not fill the memory."""

    def __init__(self, most: int, what: str, reason: str) -> None:
        """`what` is counted, in words; `reason` is the error's."""
        self._most, self._left = most, most
        self._what, self._reason = what, reason

    @property
    def left(self) -> int:
        return self._left

    def spend(self, count: int) -> None:
        """Raises Overloaded when `count` bytes more are too many."""
        if count > self._left:
            raise self.refusal()
        self._left -= count

    def refusal(self) -> Overloaded:
        """The error of a run that would hold too much."""
        told = f"{self._what} is more than {self._most} bytes together; ask for less of it"
        return Overloaded(told, reason=self._reason)
