"""A batch on its way through the device: who waits for what in it. Knows no queue and no device."""

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from services.runtime.errors import DeadlinePassed
from services.runtime.tracing.joined import joined, queued
from services.runtime.tracing.span import Span

if TYPE_CHECKING:
    from services.runtime.batcher import Outcome

T = TypeVar("T")
R = TypeVar("R")

Why = Literal["cancelled", "deadline"]


@dataclass(slots=True)
class Entry(Generic[T, R]):
    """One waiting item. The future belongs to the entry: no shared table of ids."""

    item: T
    cost: int
    group: Hashable
    deadline: float | None
    future: "asyncio.Future[Outcome[R]]"
    arrived: float = field(default_factory=time.monotonic)
    # The call it is of, if that is traced.
    span: Span | None = None

    def unwanted(self) -> Why | None:
        """Why it need not be computed any more, if so. Only looks: a device may ask from its thread."""
        if self.future.done():
            return "cancelled"
        return "deadline" if self.deadline is not None and time.monotonic() >= self.deadline else None


@dataclass(slots=True)
class HandedOver(Generic[T, R]):
    """`began`: when the device came to it, until then when it was handed over. `late`: see `compute`."""

    entries: Sequence[Entry[T, R]]
    run: Callable[..., Sequence[R | Exception]]
    began: float = field(default_factory=time.monotonic)
    late: Sequence[Why | None] = ()

    def compute(self, items: Sequence[T], *args: Any) -> Sequence[R | Exception]:
        """On the device, which may come to it late: what nobody waits for any more by then is left out."""
        self.began = time.monotonic()
        late = [entry.unwanted() for entry in self.entries]
        if not any(late):
            return self.run(items, *args)
        self.late = late
        live = [at for at, why in enumerate(late) if why is None]
        found = self.run([items[at] for at in live], *args) if live else []
        answers: dict[int, R | Exception] = dict(zip(live, found, strict=True))
        return [answers.get(at, DeadlinePassed("nobody waits for it")) for at in range(len(items))]

    def trace(self, computed: Sequence[Entry[T, R]], spent_s: float) -> None:
        """Tells the calls that are traced how long they waited, and with whom they were computed."""
        # A call's items, once: they came together.
        traced = {id(entry.span): (entry.span, entry.arrived) for entry in computed if entry.span is not None}
        if not traced:
            return
        for span, arrived in traced.values():
            queued(span, arrived, self.began)
        about = {"maas.batch.items": len(computed), "maas.batch.cost": sum(entry.cost for entry in computed)}
        joined("batch", [span for span, _ in traced.values()], self.began, self.began + spent_s, about)
