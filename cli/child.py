"""One supervised program: started, watched, restarted when it dies, stopped with patience. Draws nothing."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic

from cli.program import Program
from cli.runfile import Process, kill_session, started_at

STARTING, SERVING, UNWELL, RESTARTING = "starting", "serving", "not serving", "restarting"
STOPPING, STOPPED, FAILED = "stopping", "stopped", "failed"
FIRST_DELAY_S, DOUBLINGS = 0.5, 4
DEATHS_BEFORE_SERVING = 3
SETTLED_S = 30.0
IMPATIENT_S, RELAXED_S = 0.2, 1.0


class Child:
    """A program and its life. `changed` is called after every change of `process`."""

    def __init__(self, program: Program, log: Path, changed: Callable[["Child", str], None]) -> None:
        self.program = program
        self.log = log
        self.process = Process(address=program.address, state=STARTING)
        self.why = ""
        self.served = asyncio.Event()
        self.failed = asyncio.Event()
        self._changed = changed
        self._stopping = False
        self._spawning = False
        self._deaths = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to run the program and to keep it running."""
        self._task = asyncio.create_task(self._live())
        self._task.add_done_callback(self._ended)

    async def stop(self, patience_s: float) -> None:
        """SIGTERM to the process, SIGKILL to all it began after `patience_s`; returns when it is gone."""
        self._stopping = True
        if self._task is None or self.process.state in (STOPPED, FAILED):
            return
        self._become(STOPPING)
        self._terminate()
        if self.process.pid == 0 and not self._spawning:
            self._task.cancel()
        done, _ = await asyncio.wait({self._task}, timeout=patience_s)
        if not done:
            self.kill()
            await asyncio.wait({self._task})
        self._become(STOPPED)

    def kill(self) -> None:
        """SIGKILL to the process and to all it began; it is not started again."""
        self._stopping = True
        if self.process.pid:
            kill_session(self.process.pid)

    def _terminate(self) -> None:
        if self.process.pid:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGTERM)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A life that breaks off by an error of ours is a failure, never a silence."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.kill()
            self.failed.set()
            self._become(FAILED, f"cannot be supervised: {error!r}")

    async def _live(self) -> None:
        while not self._stopping:
            began = monotonic()
            why = await self._run_once()
            if self._stopping:
                return
            self._deaths = 0 if monotonic() - began > SETTLED_S else self._deaths + 1
            if not self.served.is_set() and self._deaths >= DEATHS_BEFORE_SERVING:
                self.failed.set()
                self._become(FAILED, why)
                return
            self.process.restarts += 1
            self._become(RESTARTING, why)
            await asyncio.sleep(delay_s(self._deaths))

    async def _run_once(self) -> str:
        """Start the process and wait until it ends; how it ended, or why it never began."""
        self._spawning = True
        try:
            running = await self._spawn()
        except OSError as error:
            return f"cannot be started: {error}"
        finally:
            self._spawning = False
        self.process.pid, self.process.started = running.pid, started_at(running.pid) or ""
        watch = asyncio.create_task(self._watch())
        try:
            return await self._outlive(running)
        finally:
            watch.cancel()
            if running.returncode is None:
                # Supervision broke off: what nobody watches must not go on.
                kill_session(running.pid)
                await running.wait()
            self.process.pid = 0

    async def _outlive(self, running: asyncio.subprocess.Process) -> str:
        if self._stopping:
            # Asked to stop while it was being born: a cancelled birth would leave it running, unknown.
            self._terminate()
        else:
            self._become(STARTING)
        return f"exited with {await running.wait()}"

    async def _spawn(self) -> asyncio.subprocess.Process:
        """The process, in a session of its own: its end can be made that of all it begins."""
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self.program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.program.environment),
                start_new_session=True,
            )

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
        self.why = why
        self._changed(self, why)


def delay_s(deaths: int) -> float:
    """Seconds before the next start after so many quick deaths in a row: doubled each time, up to a bound."""
    return FIRST_DELAY_S * 2.0 ** min(DOUBLINGS, deaths - 1)
