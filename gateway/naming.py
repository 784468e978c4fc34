"""What a request is to the cache: which version answers it, and what the key of its answer is made of.

Knows no tier of the cache and sends nothing.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from gateway.cache_key import cache_key, deterministic, fingerprint
from gateway.methods import Method
from gateway.recall import LARGE_BYTES
from gateway.trial import tries
from gateway.versions import ModelIndex, Serving
from services.runtime.errors import Code, ServiceError

# What a replica says of a version that it does not have yet, or cannot have.
_NOT_READY = frozenset({"MODEL_LOADING", "LOAD_FAILED"})


@dataclass(frozen=True, slots=True)
class Named:
    """A request with the version that is to answer it, and what the key of the answer is made of."""

    method: Method
    request: Any
    serving: Serving
    tenant: str
    content: bytes

    @property
    def lasting(self) -> bool:
        """Whether the answer may be remembered."""
        passing = self.serving.chat_tells_time and self.method.chats(self.request)
        return deterministic(self.method, self.request) and not passing

    def key(self, model: str = "", digest: str = "") -> str:
        """The key under a digest; the expected one unless given."""
        model, digest = model or self.serving.model, digest or self.serving.digest
        return cache_key(self.method.path, model, digest, self.tenant, self.content)

    def swapped(self, error: ServiceError) -> bool:
        """Whether the version was swapped out between look-up and call, or not swapped in yet on that replica,
        and the caller did not insist on it: then the service may choose."""
        gone = error.code is Code.NOT_FOUND or error.reason in _NOT_READY
        return gone and self.request.version != self.serving.version


class Namer:
    """Names requests by what the services serve right now."""

    def __init__(self, index: ModelIndex, canary_percent: float = 0) -> None:
        self._index, self._canary_percent = index, canary_percent

    @property
    def chooses(self) -> bool:
        """Whether a request must be read to tell which version it is to try."""
        return bool(self._canary_percent)

    async def name(self, method: Method, request: Any, tenant: str) -> Named | None:
        """None while it is not known which version answers, or where nothing depends on it."""
        serving, canary = self._index.resolve(method, request), self._canary(method, request)
        if canary is None and (serving is None or not deterministic(method, request)):
            return None
        # A large picture is read on another thread: nobody else waits meanwhile.
        large = request.ByteSize() > LARGE_BYTES
        content = await asyncio.to_thread(fingerprint, request) if large else fingerprint(request)
        chosen = canary if canary is not None and tries(content, self._canary_percent) else serving
        return Named(method, request, chosen, tenant, content) if chosen is not None else None

    def _canary(self, method: Method, request: Any) -> Serving | None:
        """The version that a share of the calls without a version try; None if this call has no choice."""
        if not self._canary_percent or request.version:
            return None
        return self._index.canary(method, request)


def pinned(request: Any, serving: Serving) -> bytes:
    """The request asking for exactly this version. In place and back: a large picture is not copied."""
    model, version = request.model, request.version
    request.model, request.version = serving.model, serving.version
    try:
        return bytes(request.SerializeToString())
    finally:
        request.model, request.version = model, version
