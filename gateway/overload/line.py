"""Who waits for a place: by class, in a class tenants in turn, of one tenant the earliest deadline. Pure."""

from bisect import bisect, insort
from dataclasses import dataclass, field
from math import inf
from typing import Generic, TypeVar

from gateway.overload.priority import Priority

T = TypeVar("T")


@dataclass(order=True, slots=True)
class Waiting(Generic[T]):
    """One that waits. `deadline`: for its turn, time.monotonic() seconds; `number`: of arrival."""

    deadline: float
    number: int
    what: T = field(compare=False)
    priority: Priority = field(compare=False)
    tenant: str = field(compare=False)


class Line(Generic[T]):
    """Unbounded: who keeps it short asks for the `last` and removes it."""

    def __init__(self) -> None:
        # By class: tenant → what of it waits, in order; the tenant whose turn it is comes first.
        self._classes: tuple[dict[str, list[Waiting[T]]], ...] = tuple({} for _ in Priority)
        self._counts = [0 for _ in Priority]
        self._number = 0

    def __len__(self) -> int:
        return sum(self._counts)

    def before(self, priority: Priority) -> bool:
        """Whether somebody waits whom one more of this class must not overtake."""
        return any(self._counts[: priority + 1])

    def ahead(self, priority: Priority, tenant: str, deadline: float | None) -> int:
        """How many would have their turn before one more of this class, tenant and deadline."""
        tenants = self._classes[priority]
        own = bisect(tenants.get(tenant, ()), inf if deadline is None else deadline, key=lambda one: one.deadline)
        others = sum(min(len(waiting), own + 1) for other, waiting in tenants.items() if other != tenant)
        return sum(self._counts[:priority]) + own + others

    def join(self, what: T, priority: Priority, tenant: str, deadline: float | None) -> Waiting[T]:
        """Takes its place among those who wait."""
        self._number += 1
        one = Waiting(inf if deadline is None else deadline, self._number, what, priority, tenant)
        insort(self._classes[priority].setdefault(tenant, []), one)
        self._counts[priority] += 1
        return one

    def leave(self, one: Waiting[T]) -> None:
        """It waits no more; nothing happens if it did not."""
        tenants = self._classes[one.priority]
        waiting = tenants.get(one.tenant, [])
        if one not in waiting:
            return
        waiting.remove(one)
        if not waiting:
            del tenants[one.tenant]
        self._counts[one.priority] -= 1

    def first(self) -> Waiting[T] | None:
        """Whose turn it is; stays until it leaves."""
        for tenants in self._classes:
            if tenants:
                return next(iter(tenants.values()))[0]
        return None

    def take(self, one: Waiting[T]) -> None:
        """The `first` has its turn: it leaves, and the other tenants of its class come before its own again."""
        self.leave(one)
        tenants = self._classes[one.priority]
        if rest := tenants.pop(one.tenant, None):
            tenants[one.tenant] = rest

    def last(self) -> Waiting[T] | None:
        """Whom to give up first: of the lowest class, of the tenant that has most there, the latest deadline."""
        for tenants in reversed(self._classes):
            if tenants:
                return max(tenants.values(), key=len)[-1]
        return None
