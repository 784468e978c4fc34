"""How much was used lately, and when there is room again: the sliding-window counter. Pure arithmetic.

Two counts a window, this one's and the last one's; of the last so much still counts as of it still lies within one
window's length of now. It takes the use within a window for even: in any span of `s` of its seconds at most
`limit * (1 + s / seconds)` fit, where counting by fixed windows lets a burst over an edge have the limit twice.
"""

from dataclasses import dataclass

REQUESTS, TOKENS, COMPUTE = "requests", "tokens", "compute_seconds"
KINDS = (REQUESTS, TOKENS, COMPUTE)
UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


@dataclass(frozen=True, slots=True)
class Window:
    """At most `limit` of a kind within any `seconds`."""

    kind: str
    limit: float
    seconds: int

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.seconds}"

    @property
    def wanted(self) -> int:
        """What a call takes ahead: itself. Its tokens and its time are known when it is over."""
        return int(self.kind == REQUESTS)

    def told(self) -> str:
        """As people say it: `100 requests per minute`."""
        unit = next((name for name, length in UNITS.items() if length == self.seconds), f"{self.seconds} s")
        return f"{self.limit:g} {self.kind.replace('_', ' ')} per {unit}"


@dataclass(slots=True)
class Count:
    """What was used in window number `index` of time, and in the one before."""

    index: int = 0
    now: float = 0.0
    before: float = 0.0

    def move(self, index: int) -> None:
        """To a later window."""
        if index != self.index:
            self.before = self.now if index == self.index + 1 else 0.0
            self.index, self.now = index, 0.0

    def used(self, window: Window, at_s: float) -> float:
        """At unix time `at_s`, which lies in this window."""
        return self.now + self.before * (1 - _part(window, at_s))

    def fits(self, window: Window, at_s: float, share: float = 1.0) -> bool:
        """Whether a call fits into `share` of the limit. A debt must be paid off first."""
        used, limit = self.used(window, at_s), window.limit * share
        return used + window.wanted <= limit if window.wanted else used < limit

    def wait_s(self, window: Window, at_s: float, share: float = 1.0) -> float:
        """How long until a call fits, if nobody else takes the room."""
        room, part = max(0.0, window.limit * share - window.wanted), _part(window, at_s)
        if self.now <= room and self.before:
            return max(0.0, (1 - (room - self.now) / self.before - part) * window.seconds)
        return (1 - part + max(0.0, 1 - room / max(self.now, 1e-9))) * window.seconds


def _part(window: Window, at_s: float) -> float:
    """How much of the window has passed, 0 to 1."""
    return at_s % window.seconds / window.seconds
