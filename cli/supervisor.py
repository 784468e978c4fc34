"""Runs the programs of a suite together: up until told to stop, then down in order. Draws nothing."""

import asyncio
import signal
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from cli import metrics_token, runfile
from cli.child import FAILED, Child
from cli.program import Program
from cli.runfile import Run
from cli.tls import tls_variables
from services.runtime.errors import Unavailable

LOG_TAIL_LINES = 15


class Supervisor:
    """A set of children, recorded in `home`/run.json. `told` hears of every change: (child, why)."""

    def __init__(
        self, programs: Sequence[Program], home: Path, patience_s: float, told: Callable[[Child, str], None]
    ) -> None:
        self.home = home
        self.patience_s = patience_s
        told_to = {key: value for program in programs for key, value in program.environment.items()}
        self.run_record = Run(
            runfile.myself(), tls=tls_variables(told_to), metrics_token_file=metrics_token.file_in(told_to)
        )
        self._told = told
        self._stop = asyncio.Event()
        logs = home / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        for program in programs:
            keep_previous(logs / f"{program.name}.log")
        self.children = [Child(program, logs / f"{program.name}.log", self._changed) for program in programs]
        self.run_record.programs = {child.program.name: child.process for child in self.children}

    async def run(self, ready: Callable[[], None]) -> None:
        """Up, `ready()` once all serve, down on SIGINT or SIGTERM. Unavailable if a program cannot start."""
        self._listen()
        try:
            await self._up()
            if not self._stop.is_set():
                self.run_record.ready = True
                self.run_record.save(self.home)
                ready()
            await self._stop.wait()
        finally:
            await self._down()
            runfile.clear(self.home)

    def _listen(self) -> None:
        """The first signal stops the suite in order, the second kills what is left."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        if self._stop.is_set():
            for child in self.children:
                child.kill()
        self._stop.set()

    async def _up(self) -> None:
        """Start everything at once; returns when all serve or a stop is asked for."""
        for child in self.children:
            child.start()
        await _first(
            asyncio.create_task(_all(child.served for child in self.children)),
            asyncio.create_task(self._stop.wait()),
            *(asyncio.create_task(child.failed.wait()) for child in self.children),
        )
        for child in self.children:
            if child.process.state == FAILED:
                name = child.program.name
                raise Unavailable(f"{name} does not start: {child.why}; {child.log} ends:\n{tail(child.log)}")

    async def _down(self) -> None:
        """By rank: the gateway, then the services, then what they lean on."""
        for rank in sorted({child.program.stop_rank for child in self.children}):
            group = [child for child in self.children if child.program.stop_rank == rank]
            await asyncio.gather(*(child.stop(self.patience_s) for child in group))

    def _changed(self, child: Child, why: str) -> None:
        self.run_record.save(self.home)
        self._told(child, why)


def keep_previous(log: Path) -> None:
    """A run starts with an empty log; the one before it stays beside as `.log.1`."""
    if log.is_file():
        log.replace(log.with_suffix(".log.1"))


async def _all(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        await event.wait()


async def _first(*tasks: asyncio.Task[Any]) -> None:
    """Returns when the first task is done; the others are cancelled."""
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def tail(path: Path, lines: int = LOG_TAIL_LINES) -> str:
    """The last lines of a log, or why it cannot be read."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return str(error)
