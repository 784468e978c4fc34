"""ServiceError → gRPC status with google.rpc details, and back. The only place that knows both."""

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from services.runtime.errors import MOST_MESSAGE, Code, ServiceError, Unavailable, shortened

DOMAIN = "maas"
DETAILS_KEY = "grpc-status-details-bin"
# Serialized; in base64, and beside a message of MOST_MESSAGE bytes percent-encoded, it stays under 8 KiB.
MOST_STATUS = 3 * 1024
PUSHBACK_KEY = "grpc-retry-pushback-ms"

_BY_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def grpc_code(code: int) -> grpc.StatusCode:
    """google.rpc.Code number → grpc.StatusCode; unknown numbers become UNKNOWN."""
    return _BY_NUMBER.get(code, grpc.StatusCode.UNKNOWN)


def details(error: ServiceError) -> list[Message]:
    """The google.rpc detail messages that `error` carries."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    found: list[Message] = [info]
    if error.violations:
        found.append(_bad_request(error))
    if error.retry_after_s is not None:
        found.append(error_details_pb2.RetryInfo(retry_delay=_duration(error.retry_after_s)))
    if error.quota is not None:
        subject, description = error.quota
        violation = error_details_pb2.QuotaFailure.Violation(subject=subject, description=description)
        found.append(error_details_pb2.QuotaFailure(violations=[violation]))
    if error.resource is not None:
        kind, name = error.resource
        found.append(error_details_pb2.ResourceInfo(resource_type=kind, resource_name=name))
    return found


def to_status(error: ServiceError) -> status_pb2.Status:
    """The whole error as google.rpc.Status, as it travels in trailers and in partial results."""
    if error.relayed is not None:
        return _bounded(status_pb2.Status.FromString(error.relayed))
    status = status_pb2.Status(code=int(error.code), message=error.message)
    for detail in details(error):
        status.details.add().Pack(detail)
    return _bounded(status)


def _bounded(status: status_pb2.Status) -> status_pb2.Status:
    """Without its largest details, one by one, until it fits into the trailers that every client accepts."""
    status.message = shortened(status.message, MOST_MESSAGE)
    while status.details and status.ByteSize() > MOST_STATUS:
        del status.details[max(range(len(status.details)), key=lambda i: len(status.details[i].value))]
    return status


def trailers(error: ServiceError) -> tuple[tuple[str, str | bytes], ...]:
    """Trailing metadata for `error`: the rich status, and a pushback where a retry makes sense."""
    found: list[tuple[str, str | bytes]] = [(DETAILS_KEY, to_status(error).SerializeToString())]
    if error.retry_after_s is not None:
        found.append((PUSHBACK_KEY, str(round(error.retry_after_s * 1000))))
    return tuple(found)


def status_of(error: grpc.RpcError) -> status_pb2.Status:
    """The rich status of a failed upstream call; a plain one when the peer sent none."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return to_status(Unavailable(error.details() or "backend unavailable", retry_after_s=1.0))
    return status_pb2.Status(code=error.code().value[0], message=error.details() or "")


def is_retryable(code: Code | int) -> bool:
    """Only UNAVAILABLE is safe to send again without asking."""
    return int(code) == Code.UNAVAILABLE


def _bad_request(error: ServiceError) -> error_details_pb2.BadRequest:
    bad = error_details_pb2.BadRequest()
    for violation in error.violations:
        bad.field_violations.add(field=violation.field, description=violation.description)
    return bad


def _duration(seconds: float) -> Duration:
    whole = int(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))
