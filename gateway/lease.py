"""One computation at a time for all gateways on the same Redis: whoever holds an answer's lease computes it, the
others wait for the answer. Knows no request and no Redis.

A holder that dies is followed by one who waited, at most LEASE_S later; without Redis everybody computes.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Protocol

# A lease lives so long unless it is extended, which its holder does while it computes.
LEASE_S, EXTEND_EVERY_S = 2.0, 0.5
# Looked for again and again, less often the longer it takes: a quick computation is not waited for in vain, and a
# slow one costs ten questions a second.
FIRST_LOOK_S, LONGEST_LOOK_S, SLOWER = 0.005, 0.1, 1.5


class Locks(Protocol):
    """Where leases are, beyond this process. None = no answer."""

    async def lock(self, key: str, token: str, life_s: float) -> bool | None: ...

    async def extend(self, key: str, token: str, life_s: float) -> bool | None: ...

    async def unlock(self, key: str, token: str) -> None: ...


class Lease:
    """This process is to compute the answer to `key`. Left, it is given back by `after`, in the background."""

    def __init__(
        self, locks: Locks, key: str, token: str, after: Callable[[str, Coroutine[Any, Any, None]], None]
    ) -> None:
        """`after`: runs something once the writes of a key have ended."""
        self._locks, self._key, self._token, self._after = locks, key, token, after
        self._extending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._extending = asyncio.create_task(self._extend())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._extending is not None:
            self._extending.cancel()
        # Whoever finds it free must find the answer too: it is written first.
        self._after(self._key, self._locks.unlock(self._key, self._token))

    async def _extend(self) -> None:
        """Until it is given back, or was lost: then another may compute as well, which costs only work."""
        held: bool | None = True
        while held is not False:
            await asyncio.sleep(EXTEND_EVERY_S)
            held = await self._locks.extend(self._key, self._token, LEASE_S)


def new_token() -> str:
    """Tells one holder from the next."""
    return secrets.token_hex(8)
