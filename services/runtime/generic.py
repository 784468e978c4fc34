"""Registers what generated code adds to a server by its generic handlers alone. Knows no service."""

from typing import Any

from grpc import aio


class GenericOnly:
    """Stands in for the server in `add_XServicer_to_server`.

    grpc.aio waits anew for all methods that core knows beforehand whenever a call comes: the twelve of health,
    channelz and reflection, which hardly anybody calls, cost every other call 20 µs.
    """

    def __init__(self, server: aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """The generic ones do the same."""
