"""Opens a line: connects, encrypts, says who asks. Knows no topology."""

import asyncio
import ssl
from dataclasses import dataclass
from typing import Any

from hiredis import ReplyError

from services.runtime.redis.line import Line, Word
from services.runtime.redis.place import Address, Login


@dataclass(frozen=True, slots=True)
class Dial:
    """`connect_s`: longest wait until a line can be used; `operation_s`: of each reply on it."""

    login: Login
    tls: ssl.SSLContext | None
    connect_s: float
    operation_s: float

    async def open(self, address: Address) -> Line:
        """A line whose server has answered. Raises OSError, TimeoutError or ReplyError."""
        async with asyncio.timeout(self.connect_s):
            line = await self._connect(address)
            try:
                await asked(line, self._greeting())
            except BaseException:
                line.close()
                raise
            return line

    async def _connect(self, address: Address) -> Line:
        loop = asyncio.get_running_loop()
        if address.path:
            _, line = await loop.create_unix_connection(lambda: Line(self.operation_s), address.path)
            return line
        name = address.host if self.tls else None
        _, line = await loop.create_connection(
            lambda: Line(self.operation_s), address.host, address.port, ssl=self.tls, server_hostname=name
        )
        return line

    def _greeting(self) -> list[tuple[Word, ...]]:
        """At least one question: a server that hangs still takes connections."""
        login, said = self.login, list[tuple[Word, ...]]()
        if login.username:
            said.append(("AUTH", login.username, login.password))
        elif login.password:
            said.append(("AUTH", login.password))
        if login.db:
            said.append(("SELECT", login.db))
        return said or [("PING",)]


async def asked(line: Line, questions: list[tuple[Word, ...]]) -> list[Any]:
    """The replies to all, asked in one go. Raises the first that is an error."""
    replies = await asyncio.gather(*(line.ask(*words) for words in questions), return_exceptions=True)
    for reply in replies:
        if isinstance(reply, BaseException):
            raise reply
    return replies


def refused(reply: Any, *words: str) -> bool:
    """Whether the server's answer is an error that begins with one of `words`."""
    return isinstance(reply, ReplyError) and str(reply).startswith(words)
