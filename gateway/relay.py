"""A failed call to a service → the error the gateway's caller gets: the service's own status, unchanged."""

from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode, aio

from services.runtime.errors import Code, DeadlinePassed, ServiceError, Unavailable
from services.runtime.status import DETAILS_KEY, PUSHBACK_KEY

RETRY_AFTER_S = 1.0

# Kinds of failure that speak against the replica, not against the request or the load.
FAULTS = frozenset({StatusCode.UNAVAILABLE, StatusCode.INTERNAL, StatusCode.UNKNOWN, StatusCode.DATA_LOSS})

Metadata = tuple[tuple[str, str], ...]


class Relayed(ServiceError):
    """A service's own error: code, text, details and pushback as they came."""

    def __init__(self, error: aio.AioRpcError, rich: bytes | None, pushback_ms: str) -> None:
        retry_after_s = int(pushback_ms) / 1000 if pushback_ms.isdigit() else None
        super().__init__(error.details() or "", retry_after_s=retry_after_s, reason=reason_of(rich))
        self.code = Code(error.code().value[0])
        self.relayed = rich


def blames(error: aio.AioRpcError) -> bool:
    """Whether it speaks against the replica. UNAVAILABLE with details is an answer: the service refuses for a
    reason of its own, as one that loads a model does."""
    if error.code() in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED):
        return DETAILS_KEY not in dict(error.trailing_metadata() or ())
    return error.code() in FAULTS


def shed(error: aio.AioRpcError) -> float | None:
    """The seconds that a service asks to be spared for as it has too much to do; None if that is not what it says.

    RESOURCE_EXHAUSTED alone also means a message that is too large, now and later.
    """
    pushback = str(dict(error.trailing_metadata() or ()).get(PUSHBACK_KEY, ""))
    return int(pushback) / 1000 if error.code() is StatusCode.RESOURCE_EXHAUSTED and pushback.isdigit() else None


def forbids_retries(error: aio.AioRpcError) -> bool:
    """A pushback that is no number means never (gRFC A6); how long to wait is said of that replica alone."""
    pushback = dict(error.trailing_metadata() or ()).get(PUSHBACK_KEY)
    return pushback is not None and not str(pushback).isdigit()


def relay(error: aio.AioRpcError, service: str, address: str) -> ServiceError:
    """The error to raise for `error`; what the transport alone said is put in our words."""
    trailing = dict(error.trailing_metadata() or ())
    rich = trailing.get(DETAILS_KEY)
    if rich is None and error.code() is StatusCode.UNAVAILABLE:
        return unreachable(service, f"{address}: {error.details()}")
    if rich is None and error.code() is StatusCode.DEADLINE_EXCEEDED:
        return DeadlinePassed(f"the deadline passed while {service} was working on the call")
    return Relayed(error, rich, str(trailing.get(PUSHBACK_KEY, "")))


def unreachable(service: str, why: str) -> Unavailable:
    """No replica of `service` can take the call now."""
    return Unavailable(
        f"service {service} is unavailable ({why}); retry shortly",
        reason="BACKEND_UNAVAILABLE",
        metadata={"service": service},
        retry_after_s=RETRY_AFTER_S,
    )


def reason_of(rich: bytes | None) -> str | None:
    """The service's own word for what is wrong."""
    info = error_details_pb2.ErrorInfo()
    found = any(detail.Unpack(info) for detail in status_pb2.Status.FromString(rich or b"").details)
    return info.reason if found else None


def carried(metadata: aio.Metadata | None) -> Metadata:
    """What of a service's metadata travels on to the caller: its own `x-maas-` keys and load reports."""
    found = tuple(metadata or ())
    return tuple((k, v) for k, v in found if k.startswith("x-maas-") or k == "endpoint-load-metrics-bin")
