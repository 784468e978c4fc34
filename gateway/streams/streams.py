"""The path of a generation that streams: route → key → cache → join one under way → call → store.

Remembered is the answer of the unary call, so that a stream answers a unary call and the reverse. Each message
goes on at once; that it is recorded as well, nobody waits for.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from gateway import homes, upstream
from gateway.backends import Backend
from gateway.cache import LARGE_BYTES, Cache
from gateway.cache_control import HEADER, CacheControl, cache_miss
from gateway.cache_stats import BYPASS, COALESCED, MISS, CacheStats
from gateway.methods import SERVICES, method_of
from gateway.naming import Named, Namer, pinned
from gateway.relay import Metadata
from gateway.streams.convert import Asked, Told, joined, unary
from gateway.streams.flight import Flight, Source
from gateway.streams.recording import Shelf
from gateway.streams.remembered import Replay, recalled, rest
from maas.generation.v1 import generation_pb2
from services.runtime.context import current
from services.runtime.errors import ServiceError

_RPCS = SERVICES["generation"].methods_by_name
STREAM = method_of("generation", _RPCS["GenerateStream"])
GENERATE = method_of("generation", _RPCS["Generate"])

# How the answer came about, its age in seconds, and the service's own metadata: told with the first message.
Announce = Callable[[str, float, Metadata], Awaitable[None]]
Messages = AsyncGenerator[bytes, None]


class Streams:
    """Answers GenerateStream, from memory where that is right."""

    def __init__(self, backends: Mapping[str, Backend], namer: Namer, cache: Cache, stats: CacheStats) -> None:
        self._backends, self._namer, self._cache, self._stats = backends, namer, cache, stats
        self._shelf = Shelf()
        # Under way: by key and the tokens that a message carries at least; by tenant and stream id.
        self._flights: dict[tuple[str, int], Flight] = {}
        self._ids: dict[tuple[str, str], Flight] = {}

    async def messages(self, request: Asked, announce: Announce) -> Messages:
        """The stream. Raises the service's own error, Unavailable naming it, or NotFound CACHE_MISS."""
        context = current()
        context.check_deadline()
        control = CacheControl.parse(context.metadata.get(HEADER, ""))
        choose = self._resumed if request.HasField("resume") else self._begun
        async with aclosing(await choose(request, control, announce)) as found:
            async for message in found:
                yield message

    async def _begun(self, request: Asked, control: CacheControl, announce: Announce) -> Messages:
        asked = unary(request)
        named = await self._namer.name(GENERATE, asked, current().tenant) if asked is not None else None
        announce = self._counted(announce, named.serving.model if named else "")
        if named is None or control.no_store or not named.lasting:
            return self._passed(request, named, control, announce)
        shared = named.key(), request.output.stream_interval_tokens or 1
        look_far = control.only_if_cached or self._under_way(shared) is None
        replay = None if control.no_cache else await recalled(self._cache, shared[0], control, look_far)
        if replay is not None:
            return _replayed(replay, announce)
        if control.only_if_cached:
            raise cache_miss()
        flight = None if control.no_cache else self._under_way(shared)
        if flight is not None:
            return _read(flight, 0, COALESCED, announce)
        return _read(self._fly(request, named, None if control.no_cache else shared), 0, MISS, announce)

    async def _resumed(self, request: Asked, control: CacheControl, announce: Announce) -> Messages:
        announce = self._counted(announce, "")
        replay = await rest(self._cache, request, current().tenant)
        if replay is not None:
            return _replayed(replay, announce)
        wanted = request.resume
        flight = self._ids.get((current().tenant, wanted.stream_id))
        # Not at the service, which would take the stream from those who read it here.
        if flight is not None and flight.has(wanted.after_sequence_number) and len(request.ListFields()) == 1:
            return _read(flight, wanted.after_sequence_number, COALESCED, announce)
        return self._passed(request, None, control, announce)

    def _counted(self, announce: Announce, model: str) -> Announce:
        async def counted(outcome: str, age_s: float, metadata: Metadata) -> None:
            self._stats.count(outcome, model, age_s)
            await announce(outcome, age_s, metadata)

        return counted

    def _passed(self, request: Asked, named: Named | None, control: CacheControl, announce: Announce) -> Messages:
        """Not to be remembered."""
        if control.only_if_cached:
            raise cache_miss()
        return self._called(request, named, lambda metadata: announce(BYPASS, 0.0, metadata))

    def _under_way(self, shared: tuple[str, int]) -> Flight | None:
        flight = self._flights.get(shared)
        return flight if flight is not None and flight.joinable else None

    def _fly(self, request: Asked, named: Named, shared: tuple[str, int] | None) -> Flight:
        """Begins a stream that is recorded; `shared`: by which others may join it."""
        flight, stream_id = Flight(self._shelf, self._cache.value_bytes), ""
        if shared:
            self._flights[shared] = flight

        async def hear(metadata: Metadata) -> None:
            flight.initial = metadata

        def begun(first: bytes) -> bool:
            nonlocal stream_id
            stream_id = Told.FromString(first).stream_id
            self._ids[named.tenant, stream_id] = flight
            return bool(stream_id)

        def opened(told: int) -> Messages:
            wanted = _resuming(stream_id, told) if told else request
            return self._called(wanted, None if told else named, hear)

        def landed(_: object) -> None:
            _drop(self._flights, shared, flight)
            _drop(self._ids, (named.tenant, stream_id), flight)

        flight.start(Source(opened, begun, lambda messages: self._keep(named, messages))).add_done_callback(landed)
        return flight

    async def _keep(self, named: Named, messages: list[bytes]) -> None:
        """Remembers what was told, under the digest that answered."""
        large = sum(map(len, messages)) > LARGE_BYTES
        found = await asyncio.to_thread(joined, messages) if large else joined(messages)
        if found is not None and found.served_by.digest:
            key = named.key(found.served_by.model, found.served_by.digest)
            self._cache.store(key, found.SerializeToString())

    async def _called(self, request: Asked, named: Named | None, hear: upstream.Announce) -> Messages:
        """The service's messages; by the version that `named` says, if that is still to be had."""
        backend, plain, begun = self._backends[STREAM.area], request.SerializeToString(), False
        key = homes.of_prompt(backend, STREAM, request)
        for body in [plain] if named is None else [pinned(request, named.serving), plain]:
            stream = upstream.server_stream(backend, STREAM.path, body, hear, key)
            try:
                async with aclosing(stream) as messages:
                    async for message in messages:
                        begun = True
                        yield message
                return
            except ServiceError as error:
                if begun or body is plain or named is None or not named.swapped(error):
                    raise


async def _replayed(replay: Replay, announce: Announce) -> Messages:
    for number, message in enumerate(replay.messages):
        if not number:
            await announce(replay.outcome, replay.age_s, ())
        yield message


async def _read(flight: Flight, after: int, outcome: str, announce: Announce) -> Messages:
    told = False
    async with aclosing(flight.recording.read(after, current().deadline)) as messages:
        async for message in messages:
            if not told:
                await announce(outcome, 0.0, flight.initial)
                told = True
            yield message
    current().trailing.extend(flight.trailing)


def _resuming(stream_id: str, after: int) -> Asked:
    return Asked(resume=generation_pb2.Resume(stream_id=stream_id, after_sequence_number=after))


def _drop(table: dict[Any, Flight], key: object, flight: Flight) -> None:
    if table.get(key) is flight:
        del table[key]
