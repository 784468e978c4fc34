"""One unary request to its service: pinned to a version, led to its replica, in parts if it is large.

Knows no cache.
"""

from collections.abc import Mapping
from typing import Any

from gateway import homes, upstream
from gateway.backends import Backend
from gateway.methods import Method
from gateway.naming import Named, pinned
from gateway.split.cut import items, parts_of
from gateway.split.send import in_parts
from gateway.versions import Serving
from services.runtime.errors import ServiceError


class Sender:
    """`most_items`: a request of more is shared out among the replicas; 0 = none is."""

    def __init__(self, backends: Mapping[str, Backend], most_items: int) -> None:
        self._backends, self._most_items = backends, most_items

    async def pinned(self, named: Named) -> upstream.Reply:
        """The answer of the version that was looked up; of another, if that one is swapped out meanwhile."""
        try:
            return await self._sent(named.method, named.request, named.serving)
        except ServiceError as error:
            if not named.swapped(error):
                raise
            return await self.plain(named.method, named.request)

    async def plain(self, method: Method, request: Any) -> upstream.Reply:
        """The answer of whichever version the service chooses."""
        return await self._sent(method, request, None)

    async def _sent(self, method: Method, request: Any, serving: Serving | None) -> upstream.Reply:
        backend = self._backends[method.area]
        path, count = self._parts(backend, method, request)
        reply = await in_parts(backend, method, request, path, count, serving) if count > 1 else None
        if reply is not None:
            return reply
        body = request.SerializeToString() if serving is None else pinned(request, serving)
        return await upstream.call(backend, method.path, body, key=homes.of_prompt(backend, method, request))

    def _parts(self, backend: Backend, method: Method, request: Any) -> tuple[str, int]:
        """Where the items of `request` are, and into how many parts they go."""
        if not self._most_items or len(backend.replicas) < 2:
            return "", 1
        path, many = items(method, request)
        large = many > self._most_items
        return path, parts_of(many, self._most_items, len(backend.trusted)) if large else 1
