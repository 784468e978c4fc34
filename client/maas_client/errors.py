"""What can go wrong with a call, as exceptions: one class a status code. Makes no call.

MaasError
├── InvalidArgument       a field breaks a stated rule: see `violations`
├── NotFound              the named thing is not there; the text says what is
├── FailedPrecondition    right request, wrong state
├── ResourceExhausted     too much, or a quota is spent: see `retry_after_s`
├── DeadlineExceeded      the time given was, or would be, over
├── Unavailable           nobody there, loading or leaving: see `retry_after_s`
├── Unimplemented         declared, not served there
├── PermissionDenied      known, not allowed
├── Unauthenticated       no credentials, or bad ones
├── Cancelled             ended by somebody else than the caller
├── Internal              anything unexpected: `request_id` finds it in the servers' logs
└── SessionEnded          a session is over: idle, or replaced by another holder
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2 as details_pb
from google.rpc import status_pb2

DETAILS, REQUEST_ID = "grpc-status-details-bin", "x-request-id"
Code = grpc.StatusCode
_BY_NUMBER = {code.value[0]: code for code in Code}


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule; `field` is the path in the request: `texts[3]`, `sampling.temperature`."""

    field: str
    description: str


class MaasError(Exception):
    """A call ended with another status than OK. `retry_after_s` is None where no retry makes sense."""

    code = Code.UNKNOWN

    def __init__(self, message: str, *, code: grpc.StatusCode | None = None, request_id: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.request_id = request_id
        self.reason = ""
        # What the error tells besides, for programs.
        self.metadata: Mapping[str, str] = {}
        self.violations: tuple[Violation, ...] = ()
        self.retry_after_s: float | None = None

    def __str__(self) -> str:
        told = [self.code.name, self.message]
        told += [f"(reason {self.reason})"] if self.reason else []
        told += [f"[request {self.request_id}]"] if self.request_id else []
        return " ".join(told)


class InvalidArgument(MaasError):
    code = Code.INVALID_ARGUMENT


class NotFound(MaasError):
    code = Code.NOT_FOUND


class FailedPrecondition(MaasError):
    code = Code.FAILED_PRECONDITION


class ResourceExhausted(MaasError):
    code = Code.RESOURCE_EXHAUSTED


class DeadlineExceeded(MaasError):
    code = Code.DEADLINE_EXCEEDED


class Unavailable(MaasError):
    code = Code.UNAVAILABLE


class Unimplemented(MaasError):
    code = Code.UNIMPLEMENTED


class PermissionDenied(MaasError):
    code = Code.PERMISSION_DENIED


class Unauthenticated(MaasError):
    code = Code.UNAUTHENTICATED


class Cancelled(MaasError):
    code = Code.CANCELLED


class Internal(MaasError):
    code = Code.INTERNAL


class SessionEnded(MaasError):
    """`reason` is IDLE, REPLACED or CLOSED."""

    code = Code.FAILED_PRECONDITION


_CLASSES: dict[grpc.StatusCode, type[MaasError]] = {
    kind.code: kind
    for kind in (
        *(InvalidArgument, NotFound, FailedPrecondition, ResourceExhausted, DeadlineExceeded, Unavailable),
        *(Unimplemented, PermissionDenied, Unauthenticated, Cancelled, Internal),
    )
}


def error_of(error: grpc.RpcError, request_id: str = "") -> MaasError:
    """The failed call of grpc or grpc.aio, with all that its trailers tell."""
    told = dict(error.trailing_metadata() or ())
    found = told.get(DETAILS)
    status = status_pb2.Status(code=error.code().value[0], message=error.details() or "")
    if isinstance(found, bytes):
        status.ParseFromString(found)
    return of_status(status, str(told.get(REQUEST_ID, request_id)))


def of_status(status: status_pb2.Status, request_id: str = "") -> MaasError:
    """A status as it travels in trailers and in partial results."""
    code = _BY_NUMBER.get(status.code, Code.UNKNOWN)
    error = _CLASSES.get(code, MaasError)(status.message, code=code, request_id=request_id)
    _take_details(error, status.details)
    return error


def _take_details(error: MaasError, details: Iterable[Any]) -> None:
    """Fills in those of google.rpc's details that callers act upon."""
    info, bad, retry = details_pb.ErrorInfo(), details_pb.BadRequest(), details_pb.RetryInfo()
    for detail in details:
        if detail.Unpack(info):
            error.reason, error.metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad):
            error.violations = tuple(Violation(one.field, one.description) for one in bad.field_violations)
        elif detail.Unpack(retry):
            error.retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
