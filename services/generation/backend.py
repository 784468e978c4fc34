"""What generates: the interface between the service and an engine, its own or another. Knows no engine."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from services.generation.engine.request import Sequence as EngineSequence
from services.generation.shelf import Shelf
from services.generation.stream import TokenStream
from services.runtime.store.manifest import Manifest


class Backend(Protocol):
    """Made, used and closed on one event loop."""

    @property
    def capabilities(self) -> frozenset[str]:
        """The fields of a request that it honours, by dotted name."""

    def open(
        self, sequences: Sequence[EngineSequence], *, whole: bool = False
    ) -> AbstractContextManager[TokenStream]:
        """The sequences of one request, generated for the length of the block; left early, they are aborted.
        Each ends exactly once. `whole`: the reader is not woken before the end of one.

        Raises Overloaded when the waiting queue is full, Unavailable once closing.
        """

    async def close(self) -> None:
        """Ends what still runs with Unavailable, then the engine."""


@dataclass(frozen=True, slots=True)
class Started:
    """A backend and the manifest as it answers. `context`: most tokens, prompt included, of one sequence. `shelf`:
    its adapters; None where it takes none."""

    backend: Backend
    manifest: Manifest
    context: int
    vocab_size: int
    shelf: Shelf | None = None
