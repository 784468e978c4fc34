"""How a source tells its progress. Knows no terminal."""

from typing import Protocol


class Report(Protocol):
    """Called with a label, the bytes done and the bytes in all (None: not known)."""

    def __call__(self, label: str, done: int, total: int | None) -> None: ...


def silent(label: str, done: int, total: int | None) -> None:
    """A report nobody reads."""
