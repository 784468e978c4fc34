"""Who speaks HTTP/2: grpc.aio, or our own server where that is wanted and can be built. Knows no service."""

import logging
from typing import Any

from grpc import aio

from services.runtime import ahead
from services.runtime.channels import ChannelOptions
from services.runtime.compiled import NoCompiler
from services.runtime.followed import Followed
from services.runtime.h2.guests import Guests
from services.runtime.h2.server import Server
from services.runtime.tls.credentials import of_server
from services.runtime.tls.material import Material

log = logging.getLogger("maas.server")


def open_server(
    native: bool, options: ChannelOptions, idle_s: float, guests: Guests | None = None
) -> tuple[Any, bool]:
    """The server, and whether its unary replies take their context's initial metadata along by themselves.

    `native`: our own, unless it cannot be built; it ends calls whose callers owe something for `idle_s`,
    and has `guests` at the most, of which grpc.aio knows the number in all alone.
    """
    if native:
        try:
            return Server(options, idle_s, guests), False
        except NoCompiler as error:
            log.warning("no native transport, grpc.aio serves", extra={"reason": str(error)})
    return aio.server(options=options), ahead.join()


def listen(server: Any, address: str, shown: Followed[Material] | None, clients: bool) -> int:
    """Binds and returns the port; `shown`: in TLS, by it as it is then; `clients` must show a certificate too.

    Raises RuntimeError where the port cannot be had.
    """
    if shown is None:
        return int(server.add_insecure_port(address))
    if isinstance(server, Server):
        return server.add_tls_port(address, shown, clients)
    return int(server.add_secure_port(address, of_server(shown, clients)))
