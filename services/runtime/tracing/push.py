"""Metrics to a collector, every so often, by a thread of its own. One that is away costs nobody anything."""

import logging
import threading
from collections.abc import Callable

from services.runtime.tracing.outlet import LAST_S

log = logging.getLogger("maas.tracing")


class Push:
    """`open_sender` is called on the thread, and gives what sends all there is; either may raise anything."""

    def __init__(self, open_sender: Callable[[], Callable[[], None]], every_s: float) -> None:
        self._open, self._every_s = open_sender, every_s
        self._send: Callable[[], None] | None = None
        self._closing, self._away = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="maas-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Sends once more. Blocking, for LAST_S at most."""
        self._closing.set()
        self._thread.join(LAST_S)

    def _run(self) -> None:
        while not self._closing.wait(self._every_s):
            self._tell()
        self._tell()

    def _tell(self) -> None:
        try:
            self._send = self._send or self._open()
            self._send()
        except Exception as error:
            # Once, until it is back.
            if not self._away:
                log.warning("metrics are not taken", extra={"error": f"{type(error).__name__}: {error}"})
            self._away = True
        else:
            self._away = False
