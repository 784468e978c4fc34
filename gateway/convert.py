"""Messages of the gateway's own contract ↔ the values its files work with."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

from gateway.answer import Answer
from gateway.backends import EJECTED, SERVING, Backend
from gateway.cache import Cache
from gateway.cache_stats import BYPASS, COALESCED, HIT_L1, HIT_L2, MISS, CacheStats
from gateway.overload.gate import Gate
from gateway.overload.refusals import OUT_OF_TIME, OVERLOADED
from maas.gateway.v1 import gateway_pb2
from services.runtime.errors import InvalidInput, ServiceError
from services.runtime.status import to_status


def check_ids(calls: Sequence[gateway_pb2.Call]) -> None:
    """Raises InvalidInput for an id that is empty or used twice."""
    seen: set[str] = set()
    for index, call in enumerate(calls):
        if not call.id:
            raise InvalidInput(f"calls[{index}].id", "must not be empty")
        if call.id in seen:
            raise InvalidInput(f"calls[{index}].id", f"{call.id!r} is used twice; ids must be unique")
        seen.add(call.id)


def request_of(call: gateway_pb2.Call) -> tuple[str, Any]:
    """Which kind of call it is, and its request. The reply has the same field name in a CallResult."""
    kind = call.WhichOneof("request") or ""
    return kind, getattr(call, kind)


def replied(call_id: str, kind: str, answer: Answer, started: float) -> gateway_pb2.CallResult:
    """A call's reply."""
    result = gateway_pb2.CallResult(id=call_id, cache=answer.outcome, elapsed_ms=_since(started))
    reply = getattr(result, kind)
    # An empty reply is a reply too.
    reply.SetInParent()
    reply.MergeFromString(answer.reply)
    return result


def failed(call_id: str, error: ServiceError, started: float) -> gateway_pb2.CallResult:
    """Why a call has no reply."""
    return gateway_pb2.CallResult(id=call_id, status=to_status(error), elapsed_ms=_since(started))


def of_step(step: str, error: ServiceError) -> ServiceError:
    """The same error, saying which step of a pipeline it ended."""
    status = to_status(error)
    told = ServiceError(f"step {step!r}: {error.message}", reason=error.reason, retry_after_s=error.retry_after_s)
    status.message = told.message
    told.code, told.relayed = error.code, status.SerializeToString()
    return told


def backend_statuses(backends: Iterable[Backend]) -> list[gateway_pb2.BackendStatus]:
    """One line a replica."""
    return [
        gateway_pb2.BackendStatus(
            service=backend.name,
            address=replica.address,
            health=EJECTED if replica.health == SERVING and replica.standing.out else replica.health,
            in_flight=replica.in_flight,
            calls=replica.calls,
            failures=replica.failures,
            share=replica.share,
            sheds=replica.sheds,
        )
        for backend in backends
        for replica in backend.replicas
    ]


def service_loads(backends: Iterable[Backend]) -> list[gateway_pb2.ServiceLoad]:
    """One line a service."""
    return [_load(backend.name, backend.gate) for backend in backends]


def _load(service: str, gate: Gate) -> gateway_pb2.ServiceLoad:
    return gateway_pb2.ServiceLoad(
        service=service,
        limit=gate.limit.calls,
        in_flight=gate.in_flight,
        long_in_flight=gate.long,
        queued=gate.queued,
        refused_overloaded=gate.refusals.of(OVERLOADED),
        refused_deadline=gate.refusals.of(OUT_OF_TIME),
        hedges=gate.hedges,
        hedges_won=gate.hedges_won,
    )


def cache_status(cache: Cache, stats: CacheStats) -> gateway_pb2.CacheStatus:
    """The cache as it stands."""
    redis = "off" if cache.l2 is None else "broken" if cache.l2.broken else "connected"
    return gateway_pb2.CacheStatus(
        redis=redis,
        l1_entries=len(cache.l1),
        l1_bytes=cache.l1.bytes,
        hits_l1=stats.outcomes[HIT_L1],
        hits_l2=stats.outcomes[HIT_L2],
        misses=stats.outcomes[MISS],
        coalesced=stats.outcomes[COALESCED],
        bypassed=stats.outcomes[BYPASS],
        faults=stats.faults,
    )


def _since(started: float) -> float:
    return (time.monotonic() - started) * 1000
