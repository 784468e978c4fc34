"""One supervised program: started, watched, restarted when it dies, stopped with patience. Draws nothing."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic

from cli.program import Program
from cli.runfile import Process, started_at

STARTING, SERVING, UNWELL, RESTARTING = "starting", "serving", "not serving", "restarting"
STOPPING, STOPPED, FAILED = "stopping", "stopped", "failed"
FIRST_DELAY_S, LAST_DELAY_S = 0.5, 8.0
DEATHS_BEFORE_SERVING = 3
SETTLED_S = 30.0
IMPATIENT_S, RELAXED_S = 0.2, 1.0


class Child:
    """A program and its life. `changed` is called after every change of `process`."""

    def __init__(self, program: Program, log: Path, changed: Callable[["Child", str], None]) -> None:
        self.program = program
        self.log = log
        self.process = Process(address=program.address, state=STARTING)
        self.served = asyncio.Event()
        self.failed = asyncio.Event()
        self._changed = changed
        self._stopping = False
        self._deaths = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to run the program and to keep it running."""
        self._task = asyncio.create_task(self._live())

    async def stop(self, patience_s: float) -> None:
        """SIGTERM, SIGKILL after `patience_s`; returns when the process is gone."""
        self._stopping = True
        if self._task is None or self.process.state in (STOPPED, FAILED):
            return
        self._become(STOPPING)
        self.signal(signal.SIGTERM)
        if self.process.pid == 0:
            self._task.cancel()
        done, _ = await asyncio.wait({self._task}, timeout=patience_s)
        if not done:
            self.signal(signal.SIGKILL)
            await asyncio.wait({self._task})
        self._become(STOPPED)

    def signal(self, number: int) -> None:
        """Send a signal to the process, if it runs."""
        if self.process.pid:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    async def _live(self) -> None:
        while not self._stopping:
            began = monotonic()
            code = await self._run_once()
            if self._stopping:
                return
            self._deaths = 0 if monotonic() - began > SETTLED_S else self._deaths + 1
            if not self.served.is_set() and self._deaths >= DEATHS_BEFORE_SERVING:
                self._become(FAILED, f"exited with {code}")
                self.failed.set()
                return
            self.process.restarts += 1
            self._become(RESTARTING, f"exited with {code}")
            await asyncio.sleep(min(LAST_DELAY_S, FIRST_DELAY_S * 2 ** (self._deaths - 1)))

    async def _run_once(self) -> int:
        """Start the process and wait until it ends; its exit code."""
        with self.log.open("ab") as log:
            running = await asyncio.create_subprocess_exec(
                *self.program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.program.environment),
                start_new_session=True,
            )
        self.process.pid, self.process.started = running.pid, started_at(running.pid) or ""
        self._become(STARTING)
        watch = asyncio.create_task(self._watch())
        try:
            return await running.wait()
        finally:
            watch.cancel()
            self.process.pid = 0

    async def _watch(self) -> None:
        """Follow the program's own word on whether it serves."""
        while not self._stopping:
            serving = await self.program.probe()
            if self._stopping:
                return
            if serving and self.process.state != SERVING:
                self._become(SERVING)
                self.served.set()
            elif not serving and self.process.state == SERVING:
                self._become(UNWELL)
            await asyncio.sleep(RELAXED_S if serving else IMPATIENT_S)

    def _become(self, state: str, why: str = "") -> None:
        self.process.state = state
        self._changed(self, why)
