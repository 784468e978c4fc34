"""`--workers N`: N processes on one port (SO_REUSEPORT), restarted when they die. Knows no gRPC."""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

log = logging.getLogger("maas.workers")

MARK = "MAAS_WORKER_INDEX"
# By the name under which prometheus_client looks for it.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
RESTART_DELAY_S = 1.0


def is_worker() -> bool:
    """Whether this process is one of the N."""
    return MARK in os.environ


def shared(name: str) -> Path | None:
    """A file in the folder that the N have in common; None for a process by itself."""
    return Path(os.environ[FOLDER]) / name if is_worker() and FOLDER in os.environ else None


def follow_parent() -> None:
    """Stops this worker when its supervisor is gone: its end of our stdin closes with it, even on SIGKILL."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="follow-parent", daemon=True).start()


class Workers:
    """The N children and the wish to stop."""

    def __init__(self, count: int, folder: str) -> None:
        self._folder = folder
        self.stopping = False
        self._children = [self._start(index) for index in range(count)]
        self._died_at: dict[int, float] = {}

    def _start(self, index: int) -> "subprocess.Popen[bytes]":
        environment = os.environ | {MARK: str(index), FOLDER: self._folder}
        if index:
            # One process answers for the metrics of all.
            environment["MAAS_METRICS_PORT"] = "0"
        # A group of its own: a terminal's Ctrl-C reaches the supervisor alone, which passes it on once.
        command = [sys.executable, *sys.orig_argv[1:]]
        return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, process_group=0)

    def forward(self, number: int, frame: FrameType | None = None) -> None:
        """Passes a signal on to every child."""
        self.stopping = True
        for child in self._children:
            if child.poll() is None:
                child.send_signal(number)

    def alive(self) -> bool:
        return any(child.poll() is None for child in self._children)

    def revive(self) -> None:
        """Restarts the children that died, each a moment after its death."""
        for index, child in enumerate(self._children):
            if child.poll() is None:
                continue
            if index not in self._died_at:
                self._bury(index, child)
            elif not self.stopping and time.monotonic() - self._died_at[index] > RESTART_DELAY_S:
                del self._died_at[index]
                self._children[index] = self._start(index)
                if self.stopping:
                    # Born while the signal was handled: it has not heard of it.
                    self._children[index].send_signal(signal.SIGTERM)

    def exit_code(self) -> int:
        return max(abs(int(child.returncode or 0)) for child in self._children)

    def _bury(self, index: int, child: "subprocess.Popen[bytes]") -> None:
        self._died_at[index] = time.monotonic()
        mark_process_dead(child.pid, self._folder)  # type: ignore[no-untyped-call]
        if not self.stopping:
            log.error("worker died", extra={"index": index, "exit_code": child.returncode})


def supervise(count: int) -> int:
    """Keeps `count` workers running until a signal; returns the worst exit code."""
    with tempfile.TemporaryDirectory(prefix="maas-metrics-") as folder:
        workers = Workers(count, folder)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, workers.forward)
        while workers.alive() or not workers.stopping:
            workers.revive()
            time.sleep(0.2)
        return workers.exit_code()
