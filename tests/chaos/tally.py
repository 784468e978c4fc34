"""How calls ended: each is counted once when it is sent and once when it ends."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from grpc import aio

# Answered, refused as it should be, left by its caller; failed, wrong or stuck: what must not be.
ENDINGS = ("answered", "refused", "cancelled", "failed", "wrong", "stuck")
SLACK_S = 2.0


@dataclass
class Tally:
    """`trouble` tells of each call that ended as none should."""

    sent: Counter[str] = field(default_factory=Counter)
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    longest_s: float = 0.0
    # Breaks that a caller noticed and mended: streams and sessions that went on, steps sent again.
    resumed: int = 0
    trouble: list[str] = field(default_factory=list)
    # Of each call: kind, ending, when it was made, seconds.
    times: list[tuple[str, str, float, float]] = field(default_factory=list)

    def count(self, ending: str) -> int:
        return sum(number for (_, one), number in self.ended.items() if one == ending)

    async def end(self, kind: str, call: Callable[[], Awaitable[str]], within_s: float) -> None:
        """Makes one call and counts it; `call` gives its ending, AssertionError where the answer is wrong."""
        self.sent[kind] += 1
        begun = time.monotonic()
        try:
            async with asyncio.timeout(within_s + SLACK_S):
                ending, why = await call(), ""
        except TimeoutError:
            ending, why = "stuck", f"more than {within_s} s"
        except AssertionError as error:
            ending, why = "wrong", str(error)
        except aio.AioRpcError as error:
            ending, why = "failed", f"{error.code().name} {error.details()}"
        if why:
            self.trouble.append(f"{kind} {ending} after {time.monotonic() - begun:.1f} s: {why[:600]}")
        self.ended[kind, ending] += 1
        self.times.append((kind, ending, begun, time.monotonic() - begun))
        self.longest_s = max(self.longest_s, self.times[-1][-1])

    def adds_up(self) -> bool:
        return sum(self.sent.values()) == sum(self.count(ending) for ending in ENDINGS)
