"""What a server lives with is looked through once, not again and again while it answers. Knows no server.

A full collection walks all that modules and models are made of while every call waits: 25 ms of a gateway, more
where torch is. What is frozen is passed over.
"""

import asyncio
import gc

QUIET_S = 1.0


class Settling:
    """Freezes what is there once nothing has changed for a second."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def again(self) -> None:
        """Something changed: a model came or went."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(QUIET_S, settle)


def settle() -> None:
    """Frees what nobody holds any more, what was frozen included: the cycles of a model that went."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
