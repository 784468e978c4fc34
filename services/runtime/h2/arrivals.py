"""Who connects by TLS, until it has shown itself: handshakes under way are bounded too. Knows no HTTP/2.

The event loop's own server tells of a connection only after its handshake, so it would hold as many as come.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from services.runtime.h2.guests import Guests

log = logging.getLogger("maas.h2")

# Without file descriptors there is nothing to accept with.
PAUSE_S = 0.1


class Arrivals:
    """Accepts from `listening`, which it closes, until it is closed itself.

    `tls` may be set anew, for who comes next; `guests`: who may be shaking hands.
    """

    def __init__(
        self,
        listening: socket.socket,
        accept: Callable[[], asyncio.BufferedProtocol],
        tls: ssl.SSLContext,
        guests: Guests,
        handshake_s: float,
        goodbye_s: float,
    ) -> None:
        self._listening, self._accept, self.tls, self._guests = listening, accept, tls, guests
        self._handshake_s, self._goodbye_s = handshake_s, goodbye_s
        listening.setblocking(False)
        self._shaking: set[asyncio.Task[None]] = set()
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(lambda _: listening.close())

    def close(self) -> None:
        """Nobody more is let in."""
        for task in (self._task, *self._shaking):
            task.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                made, name = await loop.sock_accept(self._listening)
            except OSError as error:
                log.warning("cannot accept", extra={"error": str(error)})
                await asyncio.sleep(PAUSE_S)
                continue
            address = str(name[0]) if isinstance(name, tuple) else ""
            if not self._guests.admit(address):
                log.warning("too many handshakes", extra={"address": address})
                made.close()
                continue
            task = loop.create_task(self._shake(made))
            self._shaking.add(task)
            task.add_done_callback(lambda task, address=address: self._over(task, address))  # type: ignore[misc]

    def _over(self, task: "asyncio.Task[None]", address: str) -> None:
        self._shaking.discard(task)
        self._guests.leave(address)

    async def _shake(self, made: socket.socket) -> None:
        times = {"ssl_handshake_timeout": self._handshake_s, "ssl_shutdown_timeout": self._goodbye_s}
        # Whoever is no peer after all: the transport has closed what there was.
        with suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(self._accept, made, ssl=self.tls, **times)
