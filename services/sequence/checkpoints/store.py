"""Checkpoints in Redis: one value a session, behind the generation it stands under. Knows no session's rules."""

import asyncio
from collections.abc import Sequence
from functools import partial
from hashlib import blake2b
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from services.runtime.errors import Unavailable
from services.runtime.redis.commands import Commands
from services.runtime.redis_link import NoAnswer, RedisLink
from services.runtime.sealing import Sealer
from services.sequence.checkpoints.keeper import Claimed, Shot
from services.sequence.checkpoints.memory import Memory, pack, unreadable
from services.sequence.sessions import Key

# A value: generation and step, written so that they sort as text, then the data; none = the session is closed.
DIGITS = 20
# KEYS: sessions; ARGV: of each its generation and step, life in ms, data. What stands under a newer generation
# stays, and so does a later step: a write that was given up can arrive after its successor.
WRITE = """
local said = {}
for place, key in ipairs(KEYS) do
  local mine = ARGV[3 * place - 2]
  local held = redis.call('GETRANGE', key, 0, 39)
  if held <= mine then
    redis.call('SET', key, mine .. ARGV[3 * place], 'PX', ARGV[3 * place - 1])
    held = mine
  end
  said[place] = string.sub(held, 1, 20)
end
return said
"""
# KEYS: a session; ARGV: a new generation, life in ms. One that is not newer takes nothing, and learns what stands.
CLAIM = """
local data = redis.call('GETRANGE', KEYS[1], 40, -1)
if data == '' then return false end
local owner = redis.call('GETRANGE', KEYS[1], 0, 19)
if owner >= ARGV[1] then return {owner, ''} end
redis.call('SETRANGE', KEYS[1], 0, ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {ARGV[1], data}
"""
KEY_BYTES = 24
SLOTS = 16  # of a cluster, at most: what shares a slot is written in one go
AT_ONCE = 8  # claims, each on a connection of its own
INLINE = 4  # sessions packed in less time than a thread takes to begin
RETRY_AFTER_S = 1.0


class Entry(NamedTuple):
    """One session as it goes to Redis."""

    slot: str
    place: int
    name: str
    head: str
    life: str
    data: bytes


class CheckpointStore:
    """Writes and claims checkpoints within the link's time bound, sealed where values are."""

    def __init__(self, link: RedisLink, sealer: Sealer | None) -> None:
        self._link, self._sealer = link, sealer
        self._claims = asyncio.Semaphore(AT_ONCE)

    @property
    def broken(self) -> bool:
        """Whether the link's breaker is open."""
        return self._link.broken

    async def write(self, shots: Sequence[Shot[Memory]]) -> list[int] | None:
        """The generation that each stands under now; None: no answer, some may have been written."""
        many = len(shots) > INLINE
        entries = await asyncio.to_thread(self._entries, shots) if many else self._entries(shots)
        said: dict[int, int] = {}
        try:
            for _, found in groupby(sorted(entries), attrgetter("slot")):
                some = list(found)
                owners = await self._link.ask(partial(_write, some))
                said |= {entry.place: int(owner) for entry, owner in zip(some, owners, strict=True)}
        except NoAnswer:
            return None
        return [said[place] for place in range(len(shots))]

    async def claim(self, key: Key, generation: int, life_s: float) -> Claimed | None:
        """What is kept of the session, without data if it stands under a newer generation already.

        Raises Unavailable, or PreconditionFailed if it does not open.
        """
        name = name_of(key)
        async with self._claims:
            try:
                found = await self._link.ask(partial(_claim, name, _digits(generation), _ms(life_s)))
            except NoAnswer:
                raise unsure(key) from None
        if found is None or not found[1]:
            return Claimed(int(found[0]), b"") if found else None
        data = self._sealer.open(name, found[1]) if self._sealer else found[1]
        if data is None:
            raise unreadable()
        return Claimed(int(found[0]), data)

    async def close(self) -> None:
        """Ends the connections."""
        await self._link.close()

    def _entries(self, shots: Sequence[Shot[Memory]]) -> list[Entry]:
        return [self._entry(place, shot) for place, shot in enumerate(shots)]

    def _entry(self, place: int, shot: Shot[Memory]) -> Entry:
        name, data = name_of(shot.key), b""
        if shot.state is not None:
            data = pack(shot.model, shot.version, shot.step, shot.state)
            data = self._sealer.seal(name, data) if self._sealer else data
        head = _digits(shot.generation) + _digits(shot.step)
        return Entry(name.partition("}")[0], place, name, head, _ms(shot.life_s), data)


async def _write(entries: Sequence[Entry], redis: Commands) -> list[bytes]:
    names = [entry.name for entry in entries]
    values = [value for entry in entries for value in (entry.head, entry.life, entry.data)]
    said: list[bytes] = await redis.eval(WRITE, len(names), *names, *values)
    return said


async def _claim(name: str, generation: str, life: str, redis: Commands) -> list[bytes] | None:
    found: list[bytes] | None = await redis.eval(CLAIM, 1, name, generation, life)
    return found


def _digits(number: int) -> str:
    return f"{number:0{DIGITS}}"


def _ms(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


def unsure(key: Key) -> Unavailable:
    """The session is not here, and nobody says whether it is elsewhere."""
    return Unavailable(
        f"session {key[1]!r} is not held here, and the store of sessions does not answer; retry",
        reason="SESSIONS_UNAVAILABLE",
        retry_after_s=RETRY_AFTER_S,
    )


def name_of(key: Key) -> str:
    """Where a tenant's session is kept: nobody else's id leads there."""
    state = blake2b(digest_size=KEY_BYTES, person=b"maas-session")
    for part in key:
        data = part.encode()
        state.update(len(data).to_bytes(8, "little") + data)
    digest = state.digest()
    return f"maas:v1:session:{{s{digest[0] % SLOTS:x}}}:{digest.hex()}"
