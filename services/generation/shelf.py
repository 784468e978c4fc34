"""Adapters that one model has in memory: few, the longest unused going first, none that is in use."""

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.generation.engine.adapter import Adapter
from services.generation.models.causal_lm import CausalLM
from services.generation.models.low_rank import Changes
from services.runtime.errors import Overloaded
from services.runtime.opened import Opened

RETRY_AFTER_S = 1.0

Read = Callable[[CausalLM], Changes]


@dataclass(slots=True)
class _Place:
    opened: Opened[Adapter]
    users: int = 0
    ready: bool = False


class Shelf:
    """At most `most` adapters, by digest. Belongs to one event loop; `adapted` is the runner's, for threads."""

    def __init__(self, most: int, adapted: Callable[[Read], object]) -> None:
        self._most, self._adapted = most, adapted
        self._places: OrderedDict[str, _Place] = OrderedDict()

    @property
    def digests(self) -> list[str]:
        """Of what is in memory or on its way, the longest unused first."""
        return list(self._places)

    @property
    def in_use(self) -> int:
        """How many cannot go now."""
        return sum(place.users > 0 for place in self._places.values())

    @asynccontextmanager
    async def hold(self, digest: str, read: Read) -> AsyncIterator[Adapter]:
        """The adapter for the length of the block; where it is not there, it is read on a thread, once for all.

        Raises what `read` raises, Overloaded where every place is in use.
        """
        place = self._place(digest, read)
        place.users += 1
        try:
            adapter = await place.opened.get()
            place.ready = True
            yield adapter
        finally:
            place.users -= 1
            if not (place.users or place.ready):
                self._places.pop(digest, None)

    def _place(self, digest: str, read: Read) -> _Place:
        if digest not in self._places:
            self._make_room()
            self._places[digest] = _Place(Opened(lambda: Adapter(digest, self._adapted(read))))
        self._places.move_to_end(digest)
        return self._places[digest]

    def _make_room(self) -> None:
        if len(self._places) < self._most:
            return
        idle = next((digest for digest, place in self._places.items() if not place.users), None)
        if idle is None:
            raise Overloaded(
                f"all {self._most} adapters that fit are in use (MAAS_ADAPTERS_MAX); retry later",
                reason="ADAPTERS_FULL",
                metadata={"limit": str(self._most)},
                retry_after_s=RETRY_AFTER_S,
            )
        del self._places[idle]
