"""Remembered generations as streams: found under the key of the unary call, replayed, resumed. Calls nobody."""

import asyncio
from dataclasses import dataclass

from gateway.cache import LARGE_BYTES, Cache
from gateway.cache_control import CacheControl
from gateway.cache_stats import HIT_L1, HIT_L2
from gateway.streams.convert import Asked, replayed
from gateway.streams.replay_id import key_of, replay_id
from services.runtime.errors import InvalidInput, NotFound, PreconditionFailed


@dataclass(frozen=True, slots=True)
class Replay:
    """The messages of a remembered answer, which tier had it, and how old it is."""

    messages: list[bytes]
    outcome: str
    age_s: float


async def recalled(cache: Cache, key: str, control: CacheControl, far: bool = True) -> Replay | None:
    """What is remembered under the key of the unary call; `far`: look in Redis too."""
    near = cache.near(key, control)
    entry = near or (await cache.far(key, control) if far else None)
    if entry is None:
        return None
    large = entry.size > LARGE_BYTES
    named = replay_id(key)
    messages = await asyncio.to_thread(replayed, entry.reply, named) if large else replayed(entry.reply, named)
    return None if messages is None else Replay(messages, HIT_L1 if near else HIT_L2, cache.age_s(entry))


async def rest(cache: Cache, request: Asked, tenant: str) -> Replay | None:
    """What `request` resumes of a replay; None where the stream is a service's own.

    Raises NotFound for an answer that is not remembered any more, PreconditionFailed for a place beyond its end.
    """
    wanted = request.resume
    key = key_of(wanted.stream_id, tenant)
    if key is None:
        return None
    if len(request.ListFields()) > 1:
        raise InvalidInput("resume", "stands together with other fields, which it repeats; leave them unset")
    found = await recalled(cache, key, CacheControl())
    if found is None:
        known = ["answers that are remembered still; ask again from the start"]
        raise NotFound("stream", wanted.stream_id, known, reason="STREAM_NOT_FOUND")
    last = len(found.messages)
    if wanted.after_sequence_number > last:
        raise PreconditionFailed(
            f"resume.after_sequence_number: is {wanted.after_sequence_number}, this stream ends with {last}; "
            f"resume after {last} and drop what came later",
            reason="RECORD_ENDS",
            metadata={"last_sequence_number": str(last)},
        )
    return Replay(found.messages[wanted.after_sequence_number :], found.outcome, found.age_s)
