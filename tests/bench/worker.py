"""A floor in a process of its own: a line of JSON in, a line of JSON out. Idle, it costs nothing."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cli.supervisor import tail

LINE_BYTES = 1 << 22


class Worker:
    """The parent's end."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process, self._log = process, log

    async def ask(self, **question: Any) -> dict[str, Any]:
        """The answer; RuntimeError with the end of its log if it died."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a floor died; {self._log} ends:\n{tail(self._log)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def close(self) -> None:
        """Closes its input, which ends it."""
        assert self._process.stdin
        self._process.stdin.close()
        await self._process.wait()


@asynccontextmanager
async def worker(
    module: str,
    *arguments: str,
    environment: Mapping[str, str],
    log: Path,
    python: Path = Path(sys.executable),
) -> AsyncIterator[Worker]:
    """Runs `python -m module`, by default in the environment of the server it is compared with."""
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            str(python),
            *("-m", module, *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **environment},
            start_new_session=True,
            limit=LINE_BYTES,
        )
    found = Worker(process, log)
    try:
        yield found
    finally:
        await found.close()
