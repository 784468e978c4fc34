"""The path of a unary call: admit → route → key → cache → single-flight (look again) → call → store.

The only file that names all the steps; each is a file of its own. The door has admitted the call already.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway import upstream
from gateway.backends import Backend
from gateway.cache import Cache
from gateway.cache_control import HEADER, CacheControl, cache_miss
from gateway.cache_key import cache_key, deterministic, fingerprint
from gateway.cache_stats import BYPASS, COALESCED, HIT_L1, HIT_L2, MISS, CacheStats
from gateway.entry import Entry
from gateway.methods import Method
from gateway.recall import LARGE_BYTES, Recall, Wire
from gateway.relay import Metadata
from gateway.singleflight import SingleFlight
from gateway.trial import tries
from gateway.versions import ModelIndex, Serving
from services.runtime.context import current
from services.runtime.errors import Code, ServiceError

# What a replica says of a version that it does not have yet, or cannot have.
_NOT_READY = frozenset({"MODEL_LOADING", "LOAD_FAILED"})


@dataclass(frozen=True, slots=True)
class Answer:
    """A serialized reply, how it came about, and the service's metadata that travels on."""

    reply: bytes
    outcome: str = BYPASS
    age_s: float = 0.0
    initial: Metadata = ()
    trailing: Metadata = ()


@dataclass(frozen=True, slots=True)
class _Named:
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


class Pipeline:
    """Answers unary calls of the services, from memory where that is right."""

    def __init__(
        self,
        backends: Mapping[str, Backend],
        index: ModelIndex,
        cache: Cache,
        stats: CacheStats,
        canary_percent: float = 0,
    ) -> None:
        self._backends, self._index, self._cache, self._stats = backends, index, cache, stats
        self._canary_percent = canary_percent
        self._flights: SingleFlight[Answer] = SingleFlight()
        self._recall = Recall(index)

    def recall(self, asked: Wire | None) -> Answer | None:
        """What this process remembers of the very same bytes; None: the request must be read, and `answer`ed."""
        context = current()
        context.check_deadline()
        control = CacheControl.parse(context.metadata.get(HEADER, ""))
        key = self._recall.key(asked) if asked is not None and not control.no_store else None
        entry = self._cache.near(key, control) if key is not None else None
        if entry is None:
            return None
        self._stats.count(HIT_L1)
        return self._hit(entry, HIT_L1)

    async def answer(self, method: Method, request: Any, asked: Wire | None = None) -> Answer:
        """Raises the service's own error, Unavailable naming it, or NotFound CACHE_MISS under only-if-cached.

        `asked`: the bytes that `request` came as, by which its answer shall be known.
        """
        context = current()
        context.check_deadline()
        control = CacheControl.parse(context.metadata.get(HEADER, ""))
        named = await self._name(method, request, context.tenant)
        if named is None or control.no_store or not named.lasting:
            answer = await self._bypass(method, request, control, named)
        elif control.only_if_cached:
            answer = await self._remembered(named.key(), control)
        elif control.no_cache:
            answer = await self._compute(named)
        else:
            answer = await self._cached(named, control, asked)
        self._stats.count(answer.outcome)
        return answer

    async def forward(self, area: str, path: str, body: bytes, once: bool = False) -> Answer:
        """A call that nothing here needs to understand; `once`: never to be sent a second time."""
        current().check_deadline()
        reply = await upstream.call(self._backends[area], path, body, once)
        self._stats.count(BYPASS)
        return Answer(reply.body, BYPASS, 0.0, reply.initial, reply.trailing)

    async def _name(self, method: Method, request: Any, tenant: str) -> _Named | None:
        """None while it is not known which version answers, or where nothing depends on it."""
        serving, canary = self._index.resolve(method, request), self._canary(method, request)
        if canary is None and (serving is None or not deterministic(method, request)):
            return None
        # A large picture is read on another thread: nobody else waits meanwhile.
        large = request.ByteSize() > LARGE_BYTES
        content = await asyncio.to_thread(fingerprint, request) if large else fingerprint(request)
        chosen = canary if canary is not None and tries(content, self._canary_percent) else serving
        return _Named(method, request, chosen, tenant, content) if chosen is not None else None

    def _canary(self, method: Method, request: Any) -> Serving | None:
        """The version that a share of the calls without a version try; None if this call has no choice."""
        if not self._canary_percent or request.version:
            return None
        return self._index.canary(method, request)

    async def _bypass(self, method: Method, request: Any, control: CacheControl, named: _Named | None) -> Answer:
        if control.only_if_cached:
            raise cache_miss()
        if named is not None:
            reply = await self._call_pinned(named)
        else:
            reply = await upstream.call(self._backends[method.area], method.path, request.SerializeToString())
        return Answer(reply.body, BYPASS, 0.0, reply.initial, reply.trailing)

    async def _remembered(self, key: str, control: CacheControl) -> Answer:
        near = self._cache.near(key, control)
        far = None if near else await self._cache.far(key, control)
        found = near or far
        if found is None:
            raise cache_miss()
        return self._hit(found, HIT_L1 if near else HIT_L2)

    async def _cached(self, named: _Named, control: CacheControl, asked: Wire | None) -> Answer:
        key = named.key()
        near = self._cache.near(key, control)
        if near is not None:
            if asked is not None:
                # Not before: what is asked once only must not push out what is asked again and again.
                self._recall.learn(asked, key)
            return self._hit(near, HIT_L1)
        # Callers of different max-age do not share: one may take an answer that is too old for the other.
        flight = (key, control.max_age_s)
        while True:
            joined = flight in self._flights
            try:
                answer = await self._flights.do(flight, lambda: self._fill(named, key, control))
                return replace(answer, outcome=COALESCED) if joined else answer
            except ServiceError as error:
                # The work had its starter's deadline; whoever joined and still has time starts anew.
                if not joined or error.code is not Code.DEADLINE_EXCEEDED:
                    raise
                current().check_deadline()

    async def _fill(self, named: _Named, key: str, control: CacheControl) -> Answer:
        # Look again: A looks and misses, B's flight stores and ends, A starts this one and need not compute.
        near = self._cache.near(key, control)
        if near is not None:
            return self._hit(near, HIT_L1)
        far = await self._cache.far(key, control)
        return self._hit(far, HIT_L2) if far is not None else await self._compute(named)

    async def _compute(self, named: _Named) -> Answer:
        reply = await self._call_pinned(named)
        # Under the digest that answered: the model may have been swapped since it was looked up.
        served = named.method.response.FromString(reply.body).served_by  # type: ignore[attr-defined]
        if served.digest:
            self._cache.store(named.key(served.model, served.digest), reply.body)
        return Answer(reply.body, MISS, 0.0, reply.initial, reply.trailing)

    async def _call_pinned(self, named: _Named) -> upstream.Reply:
        backend, path = self._backends[named.method.area], named.method.path
        asked = named.request.version
        try:
            return await upstream.call(backend, path, _pinned(named.request, named.serving))
        except ServiceError as error:
            gone = error.code is Code.NOT_FOUND or error.reason in _NOT_READY
            if not gone or asked == named.serving.version:
                raise
            # Swapped out between look-up and call, or not swapped in on this replica: let the service choose.
            return await upstream.call(backend, path, named.request.SerializeToString())

    def _hit(self, entry: Entry, outcome: str) -> Answer:
        return Answer(entry.reply, outcome, self._cache.age_s(entry))


def _pinned(request: Any, serving: Serving) -> bytes:
    """The request asking for exactly this version. In place and back: a large picture is not copied."""
    model, version = request.model, request.version
    request.model, request.version = serving.model, serving.version
    try:
        return bytes(request.SerializeToString())
    finally:
        request.model, request.version = model, version
