"""`--workers N`: N processes on one port (SO_REUSEPORT), restarted when they die. Knows no gRPC."""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from types import FrameType

log = logging.getLogger("maas.workers")

MARK = "MAAS_WORKER_INDEX"
RESTART_DELAY_S = 1.0


def is_worker() -> bool:
    """Whether this process is one of the N."""
    return MARK in os.environ


class Workers:
    """The N children and the wish to stop."""

    def __init__(self, count: int, folder: str) -> None:
        self._folder = folder
        self.stopping = False
        self._children = [self._start(index) for index in range(count)]

    def _start(self, index: int) -> "subprocess.Popen[bytes]":
        environment = os.environ | {MARK: str(index), "PROMETHEUS_MULTIPROC_DIR": self._folder}
        if index:
            # One process answers for the metrics of all.
            environment["MAAS_METRICS_PORT"] = "0"
        return subprocess.Popen([sys.executable, *sys.orig_argv[1:]], env=environment)

    def forward(self, number: int, frame: FrameType | None = None) -> None:
        """Passes a signal on to every child."""
        self.stopping = True
        for child in self._children:
            if child.poll() is None:
                child.send_signal(number)

    def alive(self) -> bool:
        return any(child.poll() is None for child in self._children)

    def revive(self) -> None:
        """Restarts the children that died."""
        for index, child in enumerate(self._children):
            if child.poll() is not None and not self.stopping:
                log.error("worker died", extra={"index": index, "exit_code": child.returncode})
                time.sleep(RESTART_DELAY_S)
                self._children[index] = self._start(index)

    def exit_code(self) -> int:
        return max(abs(int(child.returncode or 0)) for child in self._children)


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
