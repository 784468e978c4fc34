"""Workers of one port: one answers for all, so each tells its numbers by itself. Knows no metric."""

import asyncio
import os
from collections.abc import Callable

MARK = "PROMETHEUS_MULTIPROC_DIR"
EVERY_S = 0.5


class Siblings:
    """Has the news told from time to time, and at the end; where this process is alone it does nothing."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if MARK in os.environ:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._tell()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            self._tell()
