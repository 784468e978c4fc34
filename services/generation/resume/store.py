"""Records of streams in Redis: a hash each, whose fields are the numbers of its entries. Knows no message.

An entry is written once: the first writer of a number wins it, and every other one is told so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Any, cast

from redis.asyncio import Redis

from services.generation.resume.record import Record, unreadable
from services.runtime.errors import NotFound
from services.runtime.redis_link import RedisLink
from services.runtime.sealing import Sealer

# KEYS[1] the record; ARGV: number of the entry, entry, life in ms. In one step: what a writer learns must hold.
WRITE = """
if ARGV[1] ~= '0' and redis.call('HEXISTS', KEYS[1], '0') == 0 then return 'gone' end
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0
    and redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 'taken' end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 'kept'
"""
KEY_BYTES = 24


class Outcome(Enum):
    """What became of an entry: it stands; another's stands in its place; there is no such record any more."""

    KEPT = b"kept"
    TAKEN = b"taken"
    GONE = b"gone"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of one record, as it is kept in Redis; written again it is the same."""

    key: str
    number: int
    data: bytes


class RecordStore:
    """Reads and writes records. NoAnswer where Redis gives none."""

    def __init__(self, link: RedisLink, sealer: Sealer | None, life_s: float) -> None:
        self._link, self._sealer, self._life_s = link, sealer, life_s

    def entry(self, key: str, number: int, plain: bytes) -> Entry:
        """`plain`, sealed where values are."""
        return Entry(key, number, self._sealer.seal(_name(key, number), plain) if self._sealer else plain)

    async def write(self, entries: Sequence[Entry]) -> list[Outcome]:
        """All in one go, each of another record; every record lives on for its whole life from now."""
        life_ms = str(round(self._life_s * 1000))

        async def go(redis: Redis) -> list[Any]:
            pipe = redis.pipeline(transaction=False)
            for one in entries:
                pipe.eval(WRITE, 1, one.key, str(one.number), one.data, life_ms)
            return await pipe.execute()

        return [Outcome(said) for said in await self._link.ask(go)]

    async def read(self, key: str, stream_id: str) -> Record:
        """The whole record. NotFound if there is none, PreconditionFailed if it cannot be read."""

        async def go(redis: Redis) -> dict[bytes, bytes]:
            return cast("dict[bytes, bytes]", await cast("Any", redis.hgetall(key)))

        found = await self._link.ask(go)
        if b"0" not in found:
            known = [f"streams of the last {self._life_s:g} s"]
            raise NotFound("stream", stream_id, known, reason="STREAM_NOT_FOUND")
        return Record.of([self._opened(key, number, found) for number in range(len(found))])

    def _opened(self, key: str, number: int, found: dict[bytes, bytes]) -> bytes:
        data = found.get(str(number).encode())
        plain = self._sealer.open(_name(key, number), data) if self._sealer and data is not None else data
        if plain is None:
            raise unreadable()
        return plain

    async def close(self) -> None:
        """Ends the connections."""
        await self._link.close()


def key_of(tenant: str, stream_id: str) -> str:
    """Where a tenant's stream is kept: nobody else's id leads there. The braces name the slot of a cluster."""
    state = blake2b(digest_size=KEY_BYTES, person=b"maas-stream")
    for part in (tenant.encode(), stream_id.encode()):
        state.update(len(part).to_bytes(8, "little") + part)
    return f"maas:v1:stream:{{{state.hexdigest()}}}"


def _name(key: str, number: int) -> str:
    """Under which an entry is sealed: moved elsewhere it does not open."""
    return f"{key}:{number}"
