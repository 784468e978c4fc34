"""Stands where generated code expects a server, and puts every handler behind the door."""

from collections.abc import Collection
from typing import Any

import grpc
from grpc import aio

from services.runtime.door import Door
from services.runtime.guard import guarded


class Registrar:
    """Stands in for the server in `add_XServicer_to_server`: wraps each handler, then registers it for real."""

    def __init__(self, server: aio.Server, door: Door, admitted: bool = True, free: Collection[str] = ()) -> None:
        """`free`: methods that the admission limit does not hold up, though it does the others."""
        self._server, self._door, self._admitted, self._free = server, door, admitted, free
        self.services: list[str] = []
        # The wrapped handlers by path.
        self.handlers: dict[str, grpc.RpcMethodHandler] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Generated code calls both; the wrapped ones of the other method are what counts."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, grpc.RpcMethodHandler]) -> None:
        wrapped = {
            name: guarded(self._door, f"/{service}/{name}", handler, self._admitted and name not in self._free)
            for name, handler in handlers.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))
        self.handlers |= {f"/{service}/{name}": handler for name, handler in wrapped.items()}
        self.services.append(service)
