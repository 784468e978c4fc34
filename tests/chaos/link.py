"""A TCP port before a server, whose network can be made slow or cut. Knows nothing of what passes."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Self

Chunk = tuple[float, bytes]


class Link:
    """Passes bytes both ways, each `delay_s` late; none while cut: then nothing is lost, and nothing is told."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.delay_s, self._passing = 0.0, asyncio.Event()
        self._passing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cut(self) -> None:
        self._passing.clear()

    def heal(self) -> None:
        self.delay_s = 0.0
        self._passing.set()

    def lead_to(self, port: int) -> None:
        """Breaks every connection; new ones go to another server."""
        self._port = port
        for writer in self._writers:
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*(one.wait_closed() for one in self._writers), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        await self._passing.wait()
        try:
            theirs, ours = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        self._writers.add(ours)
        for source, target in ((reader, ours), (theirs, writer)):
            chunks: asyncio.Queue[Chunk] = asyncio.Queue()
            self._begin(self._take(source, chunks))
            self._begin(self._give(chunks, target))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, source: asyncio.StreamReader, chunks: asyncio.Queue[Chunk]) -> None:
        data = b"begun"
        while data:
            try:
                data = await source.read(1 << 16)
            except OSError:
                data = b""
            chunks.put_nowait((asyncio.get_running_loop().time() + self.delay_s, data))

    async def _give(self, chunks: asyncio.Queue[Chunk], target: asyncio.StreamWriter) -> None:
        """Until the other side ended, or this one is gone."""
        with suppress(OSError):
            while True:
                due, data = await chunks.get()
                await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
                await self._passing.wait()
                if not data:
                    break
                target.write(data)
                await target.drain()
        target.close()
