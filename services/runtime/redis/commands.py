"""The commands that the suite sends, with their replies as Python has them. Knows no connection.

Named and called as redis-py's are.
"""

from typing import Any, Protocol

from hiredis import ReplyError

from services.runtime.redis.line import Word


class Asked(Protocol):
    """Whoever takes a command and has the raw reply, a server's error as a value."""

    async def ask(self, *words: Word) -> Any: ...


class Commands:
    """Every one raises hiredis.ReplyError for a server's error, and what `asked` raises."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    async def execute_command(self, *words: Word) -> Any:
        """Any other: the raw reply."""
        reply = await self._asked.ask(*words)
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    async def get(self, key: str) -> bytes | None:
        found: bytes | None = await self.execute_command("GET", key)
        return found

    async def set(self, key: str, value: Word, *, px: int, nx: bool = False) -> bool:
        """`px`: life in ms; `nx`: only where there is none. Whether it was set."""
        words: tuple[Word, ...] = ("SET", key, value, "PX", px, "NX") if nx else ("SET", key, value, "PX", px)
        return bool(await self.execute_command(*words) == b"OK")

    async def incr(self, key: str) -> int:
        return int(await self.execute_command("INCR", key))

    async def unlink(self, *keys: Word) -> int:
        """How many there were."""
        return int(await self.execute_command("UNLINK", *keys))

    async def scan(self, cursor: int, *, match: str, count: int) -> tuple[int, list[bytes]]:
        """The next cursor, 0 at the end, and some keys; to be asked of a node."""
        after, keys = await self.execute_command("SCAN", cursor, "MATCH", match, "COUNT", count)
        return int(after), keys

    async def eval(self, script: str, keys: int, *words: Word) -> Any:
        """What a Lua script returns; `words`: so many keys, then its arguments."""
        return await self.execute_command("EVAL", script, keys, *words)

    async def hgetall(self, key: str) -> dict[bytes, bytes]:
        flat = await self.execute_command("HGETALL", key)
        return dict(zip(flat[::2], flat[1::2], strict=True))
