"""Records of streams in Redis: a hash each, whose fields are the numbers of its entries. Knows no message.

An entry is written once: the first writer of a number wins it, and every other one is told so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from hashlib import blake2b
from itertools import groupby

from services.generation.resume.record import Record, unreadable
from services.runtime.errors import NotFound
from services.runtime.redis.commands import Commands
from services.runtime.redis_link import RedisLink
from services.runtime.sealing import Sealer

# KEYS: records; ARGV: life in ms, then number and data of an entry of each. In one step, so that what a writer
# learns holds. Many at once: a command of its own for each would cost the event loop three times as much.
WRITE = """
local said = {}
for place, key in ipairs(KEYS) do
  local number, entry = ARGV[2 * place], ARGV[2 * place + 1]
  if number ~= '0' and redis.call('HEXISTS', key, '0') == 0 then
    said[place] = 'gone'
  elseif redis.call('HSETNX', key, number, entry) == 0 and redis.call('HGET', key, number) ~= entry then
    said[place] = 'taken'
  else
    redis.call('PEXPIRE', key, ARGV[1])
    said[place] = 'kept'
  end
end
return said
"""
KEY_BYTES = 24
PREFIX = 4  # letters of an id that tell its process


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
        """All in one go; every record lives on for its whole life from now. Of one record there are several where
        readers of this process go on with it at once."""
        outcomes: dict[int, Outcome] = {}
        places = sorted(range(len(entries)), key=lambda place: _slot(entries[place]))
        for _, found in groupby(places, lambda place: _slot(entries[place])):
            some = list(found)
            said = await self._link.ask(partial(self._write, [entries[place] for place in some]))
            outcomes |= dict(zip(some, said, strict=True))
        return [outcomes[place] for place in range(len(entries))]

    async def _write(self, entries: Sequence[Entry], redis: Commands) -> list[Outcome]:
        """Within the link: words that the script does not say are no answer either."""
        values = [value for one in entries for value in (str(one.number), one.data)]
        keys = [one.key for one in entries]
        said = await redis.eval(WRITE, len(keys), *keys, str(round(self._life_s * 1000)), *values)
        return [Outcome(word) for _, word in zip(entries, said, strict=True)]

    async def read(self, key: str, stream_id: str) -> Record:
        """The whole record. NotFound if there is none, PreconditionFailed if it cannot be read."""

        found = await self._link.ask(lambda redis: redis.hgetall(key))
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
    """Where a tenant's stream is kept: nobody else's id leads there.

    What stands in the braces decides the slot of a cluster: ids that begin alike, those of one process, share it.
    """
    state = blake2b(digest_size=KEY_BYTES, person=b"maas-stream")
    for part in (tenant.encode(), stream_id.encode()):
        state.update(len(part).to_bytes(8, "little") + part)
    slot = blake2b(stream_id[:PREFIX].encode(), digest_size=4, person=b"maas-slot").hexdigest()
    return f"maas:v1:stream:{{{slot}}}:{state.hexdigest()}"


def _slot(entry: Entry) -> str:
    return entry.key.partition("}")[0]


def _name(key: str, number: int) -> str:
    """Under which an entry is sealed: moved elsewhere it does not open."""
    return f"{key}:{number}"
