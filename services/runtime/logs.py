"""JSON lines on stderr, each with the request id of the call it belongs to, without what callers sent.

What an exception says can repeat a request: inside a call its message stays out unless bodies are logged; its type
and its frames, which are ours, stay.
"""

import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from services.runtime.context import current
from services.runtime.redaction import Redactor, clipped

_PLAIN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Longest text of one field. Beyond, redacting it would hold the event loop.
MOST = 16 * 1024
MOST_CAUSES = 8

log, lost = logging.getLogger("maas.server"), logging.getLogger("maas.lost")
# They tell errors of calls when the call itself is no more to be seen.
FOREIGN = ("asyncio", lost.name)


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, request id, and whatever `extra` carried.

    Every text passes `redactor`; None = as it is. `bodies`: exceptions inside a call are told in full.
    """

    def __init__(self, service: str, redactor: Redactor | None = None, bodies: bool = False) -> None:
        super().__init__()
        self._service, self._redactor, self._bodies = service, redactor or str, bodies

    def format(self, record: logging.LogRecord) -> str:
        try:
            return json.dumps(self._line(record), ensure_ascii=False)
        # The library would print the record itself, as it is.
        except Exception as error:
            told = f"a record could not be told: {type(error).__qualname__}"
            return json.dumps(
                {"level": "error", "service": self._service, "logger": record.name, "message": told}
                | {"at": f"{record.module}:{record.lineno}"}
            )

    def _line(self, record: logging.LogRecord) -> dict[str, object]:
        request = current()
        # asyncio's own words for a lost error repeat it, in lines after the first.
        foreign = record.name in FOREIGN
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": self._clean(record.getMessage().partition("\n")[0] if foreign else record.getMessage()),
        }
        if request.request_id:
            line["request_id"] = self._clean(request.request_id)
        if request.trace:
            line["trace_id"] = request.trace.trace_id
        line |= {key: self._clean(value) for key, value in vars(record).items() if key not in _PLAIN}
        if record.exc_info and record.exc_info[1]:
            quiet = (foreign or bool(request.method)) and not self._bodies
            line["exception"] = self._clean(stack(record.exc_info[1], quiet))
        return line

    def _clean(self, value: object) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {str(self._clean(key)): self._clean(item) for key, item in value.items()}
        if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes):
            return [self._clean(item) for item in value]
        return clipped(self._redactor, str(value), MOST)


def stack(error: BaseException, quiet: bool) -> str:
    """The frames of an error and of what caused it; `quiet`: with types for messages."""
    if not quiet:
        return "".join(traceback.format_exception(error))
    told = ["".join(traceback.format_tb(one.__traceback__)) + type(one).__qualname__ for one in _causes(error)]
    return "\n".join(reversed(told))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(MOST_CAUSES):
        if error is None:
            return
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def configure(service: str, level: str, redactor: Redactor | None = None, bodies: bool = False) -> None:
    """Sends the root logger's records, warnings, and errors that nobody caught, to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service, redactor, bodies))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    # Whatever else is written, and whoever changes that.
    logging.getLogger("maas.audit").setLevel(logging.INFO)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda told: _uncaught(told.exc_type, told.exc_value, told.exc_traceback)
    sys.unraisablehook = _unraisable


def _uncaught(kind: type[BaseException], error: BaseException | None, frames: TracebackType | None) -> None:
    log.critical("uncaught", exc_info=(kind, error or kind(), frames))


def _unraisable(told: Any) -> None:
    """An error of a destructor or a generator that nobody reads to its end."""
    lost.error("unraisable", exc_info=(told.exc_type, told.exc_value or told.exc_type(), told.exc_traceback))
