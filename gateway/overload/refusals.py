"""What is said to a call that does not get in, and how many were told so. Pure."""

from collections import Counter

from gateway.overload.priority import Priority
from services.runtime.errors import DeadlinePassed, Overloaded

LEAST_RETRY_S, MOST_RETRY_S = 0.1, 5.0

OVERLOADED, OUT_OF_TIME = "OVERLOADED", "DEADLINE_UNREACHABLE"


class Refusals:
    """Of one service."""

    def __init__(self, service: str) -> None:
        self._service = service
        # By class and reason.
        self.counts: Counter[tuple[Priority, str]] = Counter()

    def of(self, reason: str) -> int:
        """How many, of all classes."""
        return sum(count for (_, why), count in self.counts.items() if why == reason)

    def overloaded(self, priority: Priority, why: str, retry_after_s: float) -> Overloaded:
        """There is no place, and none soon enough."""
        self.counts[priority, OVERLOADED] += 1
        return Overloaded(
            f"{self._service} is overloaded ({why}); retry later",
            reason=OVERLOADED,
            metadata={"service": self._service, "priority": priority.name.lower()},
            retry_after_s=min(max(retry_after_s, LEAST_RETRY_S), MOST_RETRY_S),
        )

    def out_of_time(self, priority: Priority, why: str) -> DeadlinePassed:
        """The caller would not wait long enough for its answer."""
        self.counts[priority, OUT_OF_TIME] += 1
        return DeadlinePassed(f"{self._service} cannot answer in time ({why})", reason=OUT_OF_TIME)
