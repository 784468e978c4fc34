"""The path of a unary call: admit → route → key → cache → single-flight (look again) → call → store.

The only file that names all the steps; each is a file of its own. The door has admitted the call already.
"""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

from gateway import upstream
from gateway.affinity import Key
from gateway.answer import Answer
from gateway.backends import Backend
from gateway.cache import Cache
from gateway.cache_control import HEADER, CacheControl, cache_miss
from gateway.cache_stats import BYPASS, COALESCED, HIT_L1, HIT_L2, MISS, CacheStats
from gateway.early import may_be_due
from gateway.entry import Entry
from gateway.methods import Method
from gateway.naming import Named, Namer
from gateway.recall import Recall, Wire
from gateway.refresh import Refresher
from gateway.sender import Sender
from gateway.singleflight import SingleFlight
from gateway.versions import ModelIndex
from services.runtime.context import current
from services.runtime.errors import Code, ServiceError

# Another gateway's computation is waited for so long at most, and never longer than leaves as much time for ours.
LONGEST_WAIT_S = 30.0
# Of a request that is not worth reading: too short to be shared out among replicas.
SHORT_BYTES = 1024


class Known(NamedTuple):
    """What the bytes of a request mean: the key of the answer, and whose it is."""

    key: str
    model: str


class Pipeline:
    """Answers unary calls of the services, from memory where that is right."""

    def __init__(
        self,
        backends: Mapping[str, Backend],
        index: ModelIndex,
        cache: Cache,
        stats: CacheStats,
        namer: Namer,
        split_items: int = 0,
    ) -> None:
        self._backends, self._cache, self._stats = backends, cache, stats
        self._namer, self._sender = namer, Sender(backends, split_items)
        self._flights: SingleFlight[Answer] = SingleFlight()
        self._recall: Recall[Known] = Recall(index)
        self._refresher = Refresher(cache, self._compute)

    def unread(self, data: bytes) -> bool:
        """Whether a request may pass as it came: a short one of which nothing is looked up or stored here.

        Then the service checks it, and chooses its version.
        """
        text = current().metadata.get(HEADER, "")
        if not text or len(data) > SHORT_BYTES or self._namer.chooses:
            return False
        control = CacheControl.parse(text)
        return control.no_store and not control.only_if_cached

    def recall(self, asked: Wire | None) -> Answer | None:
        """What this process remembers of the very same bytes; None: the request must be read, and `answer`ed."""
        context = current()
        context.check_deadline()
        control = CacheControl.parse(context.metadata.get(HEADER, ""))
        known = self._recall.key(asked) if asked is not None and not control.no_store else None
        entry = self._cache.near(known.key, control) if known is not None else None
        # One that ends soon takes the long way, where it may be computed anew.
        if entry is None or known is None or may_be_due(entry, self._cache.clock()):
            return None
        return self._told(self._hit(entry, HIT_L1), known.model)

    async def recall_far(self, asked: Wire | None) -> Answer | None:
        """What Redis remembers of bytes whose meaning this process knows, and whose answer it does not keep."""
        known = self._recall.key(asked) if asked is not None and self._cache.l2 is not None else None
        control = CacheControl.parse(current().metadata.get(HEADER, ""))
        if known is None or control.no_cache or control.no_store:
            return None
        entry = await self._cache.far(known.key, control)
        if entry is None or may_be_due(entry, self._cache.clock()):
            return None
        return self._told(self._hit(entry, HIT_L2), known.model)

    async def answer(self, method: Method, request: Any, asked: Wire | None = None) -> Answer:
        """Raises the service's own error, Unavailable naming it, or NotFound CACHE_MISS under only-if-cached.

        `asked`: the bytes that `request` came as, by which its answer shall be known.
        """
        context = current()
        context.check_deadline()
        control = CacheControl.parse(context.metadata.get(HEADER, ""))
        named = await self._namer.name(method, request, context.tenant)
        if named is None or control.no_store or not named.lasting:
            answer = await self._bypass(method, request, control, named)
        elif control.only_if_cached:
            answer = await self._remembered(named.key(), control)
        elif control.no_cache:
            answer = await self._compute(named)
        else:
            answer = await self._cached(named, control, asked)
        return self._told(answer, named.serving.model if named else "")

    async def forward(
        self, area: str, path: str, body: bytes, once: bool = False, key: Key | None = None
    ) -> Answer:
        """A call that nothing here needs to understand; `once`: never to be sent a second time.

        `key`: where what it goes on from is.
        """
        current().check_deadline()
        reply = await upstream.call(self._backends[area], path, body, once, key)
        self._stats.count(BYPASS)
        return Answer(reply.body, BYPASS, 0.0, reply.initial, reply.trailing)

    async def close(self) -> None:
        """Ends what goes on behind the calls."""
        await self._refresher.close()

    async def _bypass(self, method: Method, request: Any, control: CacheControl, named: Named | None) -> Answer:
        if control.only_if_cached:
            raise cache_miss()
        reply = await (self._sender.pinned(named) if named else self._sender.plain(method, request))
        return Answer(reply.body, BYPASS, 0.0, reply.initial, reply.trailing)

    async def _remembered(self, key: str, control: CacheControl) -> Answer:
        near = self._cache.near(key, control)
        far = None if near else await self._cache.far(key, control)
        found = near or far
        if found is None:
            raise cache_miss()
        return self._hit(found, HIT_L1 if near else HIT_L2)

    async def _cached(self, named: Named, control: CacheControl, asked: Wire | None) -> Answer:
        key = named.key()
        near = self._cache.near(key, control)
        if near is not None:
            self._learn(asked, key, named)
            self._refresher.consider(named, key, near)
            return self._hit(near, HIT_L1)
        # Callers of different max-age do not share: one may take an answer that is too old for the other.
        flight = (key, control.max_age_s)
        while True:
            joined = flight in self._flights
            try:
                answer = await self._flights.do(flight, lambda: self._fill(named, key, control))
                if answer.outcome == HIT_L2:
                    self._learn(asked, key, named)
                return replace(answer, outcome=COALESCED) if joined else answer
            except ServiceError as error:
                # The work had its starter's deadline; whoever joined and still has time starts anew.
                if not joined or error.code is not Code.DEADLINE_EXCEEDED:
                    raise
                current().check_deadline()

    async def _fill(self, named: Named, key: str, control: CacheControl) -> Answer:
        # Look again: A looks and misses, B's flight stores and ends, A starts this one and need not compute.
        near = self._cache.near(key, control)
        if near is not None:
            return self._hit(near, HIT_L1)
        if not named.method.costly:
            far = await self._cache.far(key, control)
            return self._found(named, key, far, HIT_L2) if far is not None else await self._compute(named)
        far, lease, waited = await self._cache.found_or_leased(key, control, _patience_s())
        if far is not None:
            return self._found(named, key, far, COALESCED if waited else HIT_L2)
        async with lease or nullcontext():
            return await self._compute(named)

    async def _compute(self, named: Named) -> Answer:
        began = time.monotonic()
        reply = await self._sender.pinned(named)
        took_s = time.monotonic() - began
        # Under the digest that answered: the model may have been swapped since it was looked up.
        served = named.method.response.FromString(reply.body).served_by  # type: ignore[attr-defined]
        if served.digest:
            self._cache.store(named.key(served.model, served.digest), reply.body, took_s)
        return Answer(reply.body, MISS, 0.0, reply.initial, reply.trailing)

    def _found(self, named: Named, key: str, entry: Entry, outcome: str) -> Answer:
        self._refresher.consider(named, key, entry)
        return self._hit(entry, outcome)

    def _learn(self, asked: Wire | None, key: str, named: Named) -> None:
        """Of hits alone: what is asked once only must not push out what is asked again and again."""
        if asked is not None:
            self._recall.learn(asked, Known(key, named.serving.model))

    def _told(self, answer: Answer, model: str) -> Answer:
        self._stats.count(answer.outcome, model, answer.age_s)
        return answer

    def _hit(self, entry: Entry, outcome: str) -> Answer:
        return Answer(entry.reply, outcome, self._cache.age_s(entry))


def _patience_s() -> float:
    remaining_s = current().remaining_s()
    return LONGEST_WAIT_S if remaining_s is None else min(LONGEST_WAIT_S, remaining_s / 2)
