"""Drops remembered answers from both tiers, and follows the flushes of other gateways on the same Redis."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.cache import Cache
from gateway.cache_key import PREFIX, tag
from gateway.versions import ModelIndex
from maas.gateway.v1 import gateway_service_pb2
from services.runtime.errors import InvalidInput, ModelNotFound, NotFound, Unavailable
from services.runtime.redis_link import NoAnswer

LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose answers: of one tenant, of one model; None = of any."""

    tenant: str | None = None
    model: str | None = None

    @property
    def parts(self) -> tuple[str, str]:
        """Tenant and model as keys have them; * for any."""
        tenant, model = ("*" if name is None else tag(name) for name in (self.tenant, self.model))
        return tenant, model

    @property
    def pattern(self) -> str:
        """What Redis matches keys with."""
        return ":".join((PREFIX, *self.parts, "*"))

    def covers(self, key: str) -> bool:
        """Whether the answer under `key` is meant."""
        tags = key.removeprefix(f"{PREFIX}:").split(":")[:2]
        return all(wanted in ("*", found) for wanted, found in zip(self.parts, tags, strict=True))


class Flusher:
    """Does what FlushCache asks."""

    def __init__(self, cache: Cache, index: ModelIndex) -> None:
        self._cache, self._index = cache, index
        self._epoch = 0
        self._following: asyncio.Task[None] | None = None

    async def flush(
        self, request: gateway_service_pb2.FlushCacheRequest
    ) -> gateway_service_pb2.FlushCacheResponse:
        """Raises NotFound for a model or task that nobody knows, Unavailable if Redis does not answer."""
        removed = [await self._drop(scope) for scope in self._scopes(request)]
        near, far = (sum(counts) for counts in zip(*removed, strict=True))
        if request.model and not near + far and request.model not in self._index.names():
            raise ModelNotFound("model", request.model, self._index.names())
        return gateway_service_pb2.FlushCacheResponse(removed=near + far, removed_l1=near, removed_l2=far)

    async def start(self) -> None:
        """Follows other gateways until closed."""
        if self._cache.l2 is not None:
            await self._look()
            self._following = asyncio.create_task(self._follow())

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait({self._following})

    def _scopes(self, request: gateway_service_pb2.FlushCacheRequest) -> Iterable[Scope]:
        chosen = request.WhichOneof("scope")
        if chosen == "task":
            return [Scope(model=name) for name in self._models_of(request.task)]
        if chosen == "all" and not request.all:
            raise InvalidInput("all", "must be true, or another scope be set")
        names = {"model": Scope(model=request.model), "tenant": Scope(tenant=request.tenant)}
        return [names.get(chosen or "", Scope())]

    def _models_of(self, task: str) -> list[str]:
        models = self._index.models()
        found = sorted({model.name for model in models if task in model.tasks})
        if not found:
            raise NotFound("task", task, {task for model in models for task in model.tasks})
        return found

    async def _drop(self, scope: Scope) -> tuple[int, int]:
        """How many went here and in Redis. Redis first: nothing may come back from there."""
        try:
            far = await self._drop_far(scope)
        except NoAnswer:
            near = self._cache.drop(scope.covers)
            raise Unavailable(
                f"Redis did not answer and may keep some; {near} answers were dropped in this process; retry",
                reason="CACHE_UNREACHABLE",
                retry_after_s=1.0,
            ) from None
        return self._cache.drop(scope.covers), far

    async def _drop_far(self, scope: Scope) -> int:
        if self._cache.l2 is None:
            return 0
        await self._cache.written()
        removed = await self._cache.l2.flush(scope.pattern)
        before, self._epoch = self._epoch, await self._cache.l2.advance()
        if self._epoch != before + 1:
            self._forget()
        return removed

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            before = self._epoch
            await self._look()
            if self._epoch != before:
                self._forget()

    def _forget(self) -> None:
        """Another gateway has flushed. Whatever it was, here all goes: the rest is in Redis still."""
        self._cache.drop(lambda _: True)

    async def _look(self) -> None:
        """Learns how often was flushed; what Redis does not say now, it says at the next look."""
        try:
            if self._cache.l2 is not None:
                self._epoch = await self._cache.l2.epoch()
        except NoAnswer:
            return
