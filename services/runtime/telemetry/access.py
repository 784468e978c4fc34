"""A line for a call in the log: of those that were refused and of the others a bounded number a second.

What breaks here has a line of its own, always. Holds no message of a call and no word of one.
"""

import logging
import re
import time

from services.runtime.context import RequestContext
from services.runtime.errors import Code, ServiceError

log = logging.getLogger("maas.call")
# Their words are about servers, not about a request.
OURS = (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED)
# What a caller named in a field's path: the key of a map.
_NAMES = re.compile(r"\[(?!\d+\])[^\]]*\]?")


class Ration:
    """So many a second, and how many had to be left out since the last that was not."""

    __slots__ = ("_left", "_missed", "_most", "_until")

    def __init__(self, most: int) -> None:
        self._most = self._left = most
        self._until = 0.0
        self._missed = 0

    def take(self, now: float) -> int | None:
        """None = leave it out; else how many were."""
        if now >= self._until:
            self._left, self._until = self._most, now + 1
        if not self._left:
            self._missed += 1
            return None
        self._left -= 1
        missed, self._missed = self._missed, 0
        return missed


class AccessLog:
    """`whole`: words on a request may be told, as its body is."""

    def __init__(self, per_s: int, whole: bool = False) -> None:
        self._answered, self._refused, self._whole = Ration(per_s), Ration(per_s), whole

    def ended(self, call: RequestContext, status: str, refusal: ServiceError | None) -> None:
        """Its end, with what it took and moved."""
        now = time.monotonic()
        missed = (self._answered if refusal is None else self._refused).take(now)
        if missed is None or not log.isEnabledFor(logging.INFO):
            return
        told: dict[str, object] = {"method": call.method, "status": status}
        told |= {"ms": round((now - call.started) * 1000, 3), "received": call.received, "sent": call.sent}
        if call.tenant:
            told["tenant"] = call.tenant
        if missed:
            told["left_out"] = missed
        if refusal is not None:
            told |= why(refusal, self._whole)
        log.info("call" if refusal is None else "refused", extra=told)


def why(error: ServiceError, whole: bool) -> dict[str, object]:
    """What the log says of an error. Words on a request can repeat it: unless `whole`, fields are named alone."""
    if whole or error.code in OURS:
        return {"reason": error.reason, "error": error.message}
    fields = [_NAMES.sub("[…]", violation.field) for violation in error.violations]
    return {"reason": error.reason, **({"fields": fields} if fields else {})}
