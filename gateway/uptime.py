"""Whether a service has a healthy replica, and who waits for one. Knows no replica."""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress

# A gateway that starts, or was itself stopped, lost all replicas only seemingly: they are back in a moment.
GRACE_S = 3.0


class Uptime:
    """Down at first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds."""
        self._clock, self._up, self._lost_at = clock, asyncio.Event(), -math.inf

    def say(self, up: bool) -> None:
        """Takes how it is now."""
        if up:
            self._up.set()
        elif self._up.is_set() or self._lost_at < 0:
            self._up.clear()
            self._lost_at = self._clock()

    async def up(self) -> None:
        """Returns once it is up."""
        await self._up.wait()

    async def soon(self) -> None:
        """Returns once it is up, or when it was down for GRACE_S: at once in most cases."""
        left_s = self._lost_at + GRACE_S - self._clock()
        if self._up.is_set() or left_s <= 0:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                await self._up.wait()
