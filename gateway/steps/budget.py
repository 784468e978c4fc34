"""How many bytes one run of a pipeline may copy and hold. Pure."""

from services.runtime.errors import Overloaded


class Budget:
    """Counts what bindings copy and what steps reply: a few short templates must not fill the memory."""

    def __init__(self, most: int) -> None:
        self._most, self._left = most, most

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
        return Overloaded(
            f"what bindings copy and steps reply is more than {self._most} bytes together; ask for less of it",
            reason="PIPELINE_TOO_LARGE",
        )
