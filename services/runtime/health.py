"""grpc.health.v1: the truth about this server, by service and by model. NOT_SERVING until told otherwise."""

import asyncio
from collections.abc import AsyncIterator

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

# A health_pb2.HealthCheckResponse.ServingStatus number.
ServingStatus = int
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

OVERALL = ""
# SERVING for as long as the event loop answers, whatever there is to serve: for liveness.
PROCESS = "maas.process"
# gRFC A90 caps List.
LIST_LIMIT = 100


def model_service(name: str) -> str:
    """The health name of a model."""
    return f"maas.model/{name}"


class Readiness:
    """The only writer of health. After `drain` nothing flips back."""

    def __init__(self) -> None:
        self._states: dict[str, ServingStatus] = {OVERALL: NOT_SERVING, PROCESS: SERVING}
        self._changed = asyncio.Event()
        self._draining = False
        self._ended = False

    @property
    def draining(self) -> bool:
        return self._draining

    def set(self, service: str, serving: bool) -> None:
        """Makes a name known and says whether it answers."""
        self._update({service: SERVING if serving and not self._draining else NOT_SERVING})

    def forget(self, service: str) -> None:
        """Watchers of the name are told SERVICE_UNKNOWN."""
        self._states.pop(service, None)
        self._notify()

    def drain(self) -> None:
        """Everything but the process NOT_SERVING, for good: the first act of a shutdown."""
        self._draining = True
        self._update(dict.fromkeys(self._states.keys() - {PROCESS}, NOT_SERVING))

    def end_watches(self) -> None:
        """Ends every open Watch, so that a bounded drain does not wait for watchers."""
        self._ended = True
        self._notify()

    def status(self, service: str) -> "ServingStatus | None":
        return self._states.get(service)

    def all(self) -> dict[str, ServingStatus]:
        return dict(self._states)

    async def watch(self, service: str) -> AsyncIterator[ServingStatus]:
        """The present status, then each change until the watches are ended, the last one before that included."""
        last: ServingStatus | None = None
        while True:
            changed = self._changed
            status = self._states.get(service, SERVICE_UNKNOWN)
            if status != last:
                last = status
                yield status
            elif self._ended:
                return
            else:
                await changed.wait()

    def _update(self, states: dict[str, ServingStatus]) -> None:
        self._states |= states
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Answers from memory, so a probe never queues behind work."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: aio.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        status = self._readiness.status(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service!r}")
        return health_pb2.HealthCheckResponse(status=status)

    async def List(
        self, request: health_pb2.HealthListRequest, context: aio.ServicerContext
    ) -> health_pb2.HealthListResponse:
        states = self._readiness.all()
        if len(states) > LIST_LIMIT:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"more than {LIST_LIMIT} services; use Check")
        replies = {name: health_pb2.HealthCheckResponse(status=status) for name, status in states.items()}
        return health_pb2.HealthListResponse(statuses=replies)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: aio.ServicerContext) -> None:
        async for status in self._readiness.watch(request.service):
            await context.write(health_pb2.HealthCheckResponse(status=status))
