"""Who speaks HTTP/2: grpc.aio, or our own server where that is wanted and can be built. Knows no service."""

import logging
from typing import Any

from grpc import aio

from services.runtime import ahead
from services.runtime.channels import ChannelOptions
from services.runtime.compiled import NoCompiler
from services.runtime.h2.server import Server

log = logging.getLogger("maas.server")


def open_server(native: bool, options: ChannelOptions, idle_s: float) -> tuple[Any, bool]:
    """The server, and whether its unary replies take their context's initial metadata along by themselves.

    `native`: our own, unless it cannot be built; it ends calls whose callers owe something for `idle_s`.
    """
    if native:
        try:
            return Server(options, idle_s), False
        except NoCompiler as error:
            log.warning("no native transport, grpc.aio serves", extra={"reason": str(error)})
    return aio.server(options=options), ahead.join()
