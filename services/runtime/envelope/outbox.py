"""What waits to be written to a stream: it goes together as soon as the stream takes a message. Knows no gRPC.

No clock: a lone piece is written at once, and what comes meanwhile makes up the next message.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context

MOST_PIECES, MOST_BYTES = 256, 256 * 1024  # of a message, unless one piece alone is larger

Write = Callable[[bytes], Awaitable[None]]
Ready = Callable[[], Awaitable[None]]


class Outbox:
    """Pieces are fields of one kind of message in protobuf's wire form: end to end they are such a message."""

    def __init__(self, write: Write, ready: Ready | None = None) -> None:
        """`ready` is awaited before each message: what comes until then is still in it."""
        self._write, self._ready = write, ready
        self._pieces: dict[int, bytes] = {}
        self._pump: asyncio.Task[None] | None = None
        self._broken = False

    def __len__(self) -> int:
        return len(self._pieces)

    def put(self, key: int, piece: bytes) -> None:
        """To be written under a key that no other waiting piece has; dropped once a write has failed."""
        if self._broken:
            return
        self._pieces[key] = piece
        if self._pump is None:
            # In a context of its own: it outlives the call that it begins in.
            self._pump = asyncio.create_task(self._run(), context=Context())

    def withdraw(self, key: int) -> bool:
        """Whether the piece still waited; then it is not written."""
        return self._pieces.pop(key, None) is not None

    def shut(self) -> None:
        """Takes nothing any more, and forgets what waits."""
        self._broken = True
        self._pieces.clear()

    async def drained(self) -> None:
        """Returns once all is written, or cannot be any more."""
        while self._pump is not None:
            await asyncio.wait({self._pump})

    async def _run(self) -> None:
        try:
            while self._pieces:
                if self._ready is not None:
                    await self._ready()
                if message := self._message():
                    await self._write(message)
        # Whoever reads the stream hears why it ended; here it only matters that it takes no more.
        except Exception:
            self.shut()
        finally:
            self._pump = None

    def _message(self) -> bytes:
        taken: list[bytes] = []
        size = 0
        for piece in self._pieces.values():
            size += len(piece)
            if taken and (size > MOST_BYTES or len(taken) == MOST_PIECES):
                break
            taken.append(piece)
        if len(taken) == len(self._pieces):
            self._pieces.clear()
        else:
            for key in list(self._pieces)[: len(taken)]:
                del self._pieces[key]
        return b"".join(taken)
