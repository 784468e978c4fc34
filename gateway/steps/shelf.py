"""The stored pipelines in force: those of the file when it was last good."""

from collections.abc import Mapping
from pathlib import Path

from gateway.steps.stored import Stored, load
from services.runtime.errors import NotFound
from services.runtime.followed import Followed


class Shelf(Followed[Mapping[str, Stored]]):
    """Pipelines by name; follows its file."""

    def __init__(self, path: Path) -> None:
        """Raises what `load` raises."""
        super().__init__(path, lambda _: load(path))

    def __getitem__(self, name: str) -> Stored:
        """Raises NotFound naming the pipelines there are."""
        if name not in self.value:
            raise NotFound("pipeline", name, self.value, reason="PIPELINE_NOT_FOUND")
        return self.value[name]

    def all(self) -> list[Stored]:
        """In the order of the file."""
        return list(self.value.values())
