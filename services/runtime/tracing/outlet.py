"""Spans on their way out: a bounded queue, and the thread that empties it. Knows no OTLP and no network.

Whoever puts one waits for nothing. A collector that is away is tried again with what it did not take, while the
queue fills; what the queue does not hold is dropped, and counted.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from services.runtime.tracing.span import Span

BATCH = 256
# How long a span waits for company.
EVERY_S = 1.0
# At a stop, what is left may take so long.
LAST_S = 5.0

log = logging.getLogger("maas.tracing")


class Away(Exception):
    """The collector does not take it now; it may later."""


class Collector(Protocol):
    """Where spans go; called on the outlet's thread alone."""

    def pack(self, spans: Sequence[Span]) -> Any:
        """A message of these."""

    def send(self, message: Any) -> None:
        """Raises Away, or anything else for a message that will never be taken."""

    def close(self) -> None: ...


class Outlet:
    """`open_collector` is called on the thread, with the first span: a process that tells nothing opens nothing.

    `count` is told "exported", "dropped" or "failed", and of how many.
    """

    def __init__(
        self, open_collector: Callable[[], Collector], most: int, count: Callable[[str, int], None]
    ) -> None:
        self._open, self._most, self._count = open_collector, most, count
        self._queue: deque[Span] = deque()
        self._wake, self._closing = threading.Event(), False
        self._collector: Collector | None = None
        # What was not taken yet, and how many spans it holds.
        self._held: tuple[Any, int] | None = None
        self._away = False
        self._thread = threading.Thread(target=self._run, name="maas-traces", daemon=True)
        self._thread.start()

    def put(self, span: Span) -> None:
        """Takes a span that ended."""
        if len(self._queue) >= self._most:
            self._count("dropped", 1)
            return
        self._queue.append(span)
        if len(self._queue) == BATCH:
            self._wake.set()

    def close(self) -> None:
        """Sends what is left, within LAST_S. Blocking."""
        self._closing = True
        self._wake.set()
        self._thread.join(LAST_S)

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(EVERY_S)
            self._wake.clear()
            self._empty()
        self._empty()
        self._lose()
        if self._collector is not None:
            self._collector.close()

    def _empty(self) -> None:
        """Sends until nothing is left, or the collector is away."""
        while self._held is not None or self._queue:
            try:
                self._collector = self._collector or self._open()
                self._held = self._held or self._taken(self._collector)
                self._collector.send(self._held[0])
            except Away as error:
                self._say(error)
                return
            except Exception as error:
                self._say(error)
                self._told("failed")
            else:
                self._away = False
                self._told("exported")

    def _taken(self, collector: Collector) -> tuple[Any, int]:
        spans: list[Span] = []
        with suppress(IndexError):
            while len(spans) < BATCH:
                spans.append(self._queue.popleft())
        # Callers before this: what follows holds the interpreter.
        time.sleep(0)
        return collector.pack(spans), len(spans)

    def _told(self, fate: str) -> None:
        if self._held is not None:
            self._count(fate, self._held[1])
            self._held = None

    def _lose(self) -> None:
        """Nothing is sent any more."""
        self._told("failed")
        if self._queue:
            self._count("failed", len(self._queue))

    def _say(self, error: Exception) -> None:
        """Once, until it is back."""
        if not self._away:
            self._away = True
            log.warning("traces are not taken", extra={"error": f"{type(error).__name__}: {error}"})
