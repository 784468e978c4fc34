"""The error tree of the suite. Knows nothing of gRPC: `status.py` turns these into rich statuses.

ServiceError
├── InvalidInput            INVALID_ARGUMENT     a field breaks a stated rule
├── NotFound                NOT_FOUND            the named thing is not there; says what is
│   ├── ModelNotFound                            model or version
│   └── SessionNotFound                          session id unknown or expired
├── PreconditionFailed      FAILED_PRECONDITION  right request, wrong state (e.g. another tokenizer's ids)
├── Overloaded              RESOURCE_EXHAUSTED   queue full or a limit reached; says when to retry
│   └── QuotaExceeded                            the tenant's quota is spent
├── DeadlinePassed          DEADLINE_EXCEEDED    nobody waits for the answer any more
├── Unavailable             UNAVAILABLE          loading, draining or a backend down; says when to retry
├── Unimplemented           UNIMPLEMENTED        declared in the contract, not served here; names the field
├── Denied                  PERMISSION_DENIED    identity known, not allowed
└── Unauthenticated         UNAUTHENTICATED      no or bad credentials
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.runtime.code import Code as Code

# Bytes, but for MOST_VIOLATIONS. An error travels in HTTP/2 trailers; clients drop those over 8 KiB, and the
# error's code with them.
MOST_MESSAGE = 1024
MOST_DESCRIPTION = 512
MOST_NAME = 128
MOST_VIOLATIONS = 16
MOST_TOLD = 1536


def shortened(text: str, most: int = MOST_NAME) -> str:
    """`text` in at most `most` UTF-8 bytes. The middle gives way: the fix stands at the end."""
    # A file's name can hold half characters, which no message carries.
    data = text.encode(errors="replace")
    if len(data) <= most:
        return data.decode()
    tail = most // 4
    return f"{data[: most - tail - 3].decode(errors='ignore')}…{data[-tail:].decode(errors='ignore')}"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: `field` is the proto path, e.g. `texts[3]` or `sampling.temperature`."""

    field: str
    description: str


class ServiceError(Exception):
    """Base: raise a subclass; the server floor turns it into one status with details."""

    code = Code.INTERNAL
    reason = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.message = shortened(message, MOST_MESSAGE)
        super().__init__(self.message)
        self.reason = reason or type(self).reason
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s
        self.violations: tuple[Violation, ...] = ()
        self.resource: tuple[str, str] | None = None
        # Whose quota, and which: google.rpc.QuotaFailure.
        self.quota: tuple[str, str] | None = None
        # Another server's serialized google.rpc.Status, passed on instead of one made from this error.
        self.relayed: bytes | None = None


class InvalidInput(ServiceError):
    """A field breaks a stated rule. The description says the limit and the fix."""

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_FIELD"

    def __init__(self, field: str, description: str, *, reason: str | None = None) -> None:
        field, description = shortened(field), shortened(description, MOST_DESCRIPTION)
        super().__init__(f"{field}: {description}" if field else description, reason=reason)
        self.violations = (Violation(field, description),)

    @classmethod
    def many(cls, violations: Iterable[Violation]) -> "InvalidInput":
        """One error for all broken rules of a request; the first few are told, the rest counted."""
        found = tuple(violations)
        told: list[InvalidInput] = []
        spent = 0
        for one in (cls(v.field, v.description) for v in found[:MOST_VIOLATIONS]):
            spent += len(one.message.encode())
            if told and spent > MOST_TOLD:
                break
            told.append(one)
        rest = len(found) - len(told)
        told += [cls("", f"and {rest} more")] if rest else []
        error = cls("", "; ".join(one.message for one in told))
        error.violations = tuple(violation for one in told for violation in one.violations)
        return error


class NotFound(ServiceError):
    """`kind` `name` is not there; `known` lists what is."""

    code = Code.NOT_FOUND
    reason = "NOT_FOUND"

    def __init__(self, kind: str, name: str, known: Iterable[str] = (), *, reason: str | None = None) -> None:
        name, have = shortened(name), ", ".join(sorted(known)) or "none"
        super().__init__(f"{kind} {name!r} not found; available: {have}", reason=reason)
        self.resource = (kind, name)


class ModelNotFound(NotFound):
    """No such model, or no such version of it, is served here."""

    reason = "MODEL_NOT_FOUND"


class SessionNotFound(NotFound):
    """The session id is unknown here or has expired."""

    reason = "SESSION_NOT_FOUND"


class PreconditionFailed(ServiceError):
    """The request is well formed but the state it needs does not hold."""

    code = Code.FAILED_PRECONDITION
    reason = "PRECONDITION_FAILED"


class Overloaded(ServiceError):
    """A bound was reached (queue, quota, size). Safe to retry after `retry_after_s`."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"


class QuotaExceeded(Overloaded):
    """`quota`, in words, of `tenant` is spent until `retry_after_s` from now."""

    reason = "QUOTA_EXCEEDED"

    def __init__(self, tenant: str, quota: str, retry_after_s: float) -> None:
        whose = f"tenant {tenant!r}" if tenant else "callers without a tenant"
        super().__init__(
            f"the quota of {whose} is spent: {quota}; retry in {retry_after_s:.3g} s", retry_after_s=retry_after_s
        )
        self.quota = shortened(f"tenant:{tenant}"), quota


class DeadlinePassed(ServiceError):
    """The caller's deadline passed, or cannot be met, before the answer was computed."""

    code = Code.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class Unavailable(ServiceError):
    """Loading, draining, or a backend is down; retry after `retry_after_s`."""

    code = Code.UNAVAILABLE
    reason = "UNAVAILABLE"


class Unimplemented(ServiceError):
    """Declared in the contract but not served here; the text names the field or RPC."""

    code = Code.UNIMPLEMENTED
    reason = "UNIMPLEMENTED"


class Denied(ServiceError):
    """The caller is known but not allowed."""

    code = Code.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"


class Unauthenticated(ServiceError):
    """No credentials, or bad ones."""

    code = Code.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"
