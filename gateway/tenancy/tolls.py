"""The gateway's till: every call of a model passes it, and what replies tell is counted. Knows no transport."""

import time
from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message

from gateway.cache_stats import REMEMBERED
from gateway.methods import SERVICES, Method, method_of, methods_of
from gateway.tenancy.ledger import Ledger
from gateway.tenancy.quotas import Quotas
from gateway.tenancy.told import Cost, of_results, reader
from gateway.tenancy.windows import COMPUTE, REQUESTS, TOKENS
from maas.gateway.v1 import gateway_service_pb2
from maas.oip.v1 import grpc_service_pb2
from services.runtime.context import RequestContext

_FRONT = gateway_service_pb2.DESCRIPTOR.services_by_name["GatewayService"]
_OIP = grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
# Of several calls each.
MANY = frozenset({"FanOut", "FanOutStream", "RunPipeline", "RunPipelineStream"})
OIP = frozenset({"ModelInfer", "ModelStreamInfer"})
# Replies whose model is known by their hash: the same answer is given again and again.
KNOWN = 4096


class Till:
    """`quotas` None: nobody is refused. `ledger` None: nothing is written down."""

    def __init__(self, quotas: Quotas | None, ledger: Ledger | None) -> None:
        self.quotas, self.ledger = quotas, ledger
        self._methods = {method.path: method for method in _paid()}
        self._models: dict[int, str] = {}

    def bill(self, request: RequestContext) -> "CallBill | None":
        """None for calls of no model."""
        method = self._methods.get(request.method)
        return CallBill(self, method, request) if method is not None else None

    def count(self, tenant: str, cost: Cost, requests: int, cached: bool) -> None:
        """One reply's."""
        if cached:
            if self.ledger is not None:
                self.ledger.add_remembered(tenant, cost.model, requests)
            return
        if self.ledger is not None:
            self.ledger.add(tenant, cost, requests)
        if self.quotas is not None:
            self.quotas.charge(tenant, TOKENS, cost.prompt_tokens + cost.completion_tokens)
            self.quotas.charge(tenant, COMPUTE, cost.compute_s)

    def model_of(self, method: Method, reply: bytes) -> str:
        """The model that a remembered reply names, read once."""
        name = hash(reply)
        model = self._models.get(name)
        if model is None:
            if len(self._models) >= KNOWN:
                self._models.clear()
            model = self._models[name] = read(method, reply).model
        return model


class CallBill:
    """One call's. `_replies` so far; of a stream of generation what was counted of it."""

    __slots__ = ("_begun", "_completion", "_method", "_model", "_replies", "_request", "_till", "_whole")

    def __init__(self, till: Till, method: Method, request: RequestContext) -> None:
        self._till, self._method, self._request = till, method, request
        self._replies = self._completion = 0
        self._begun, self._model, self._whole = 0.0, "", False

    async def admit(self) -> None:
        """Raises QuotaExceeded."""
        if self._till.quotas is not None:
            await self._till.quotas.admit(self._request.tenant)

    async def add(self, reply: Any) -> None:
        """A reply; on a stream of requests each but the first must be admitted as a call is."""
        self._replies += 1
        if self._method.name in MANY:
            return self._add_results(reply)
        if self._replies > 1 and self._method.client_streaming:
            await self.admit()
        requests = int(self._replies == 1 or self._method.client_streaming)
        tenant, till = self._request.tenant, self._till
        if self._request.remembered:
            if requests and till.ledger is not None:
                till.ledger.add_remembered(tenant, till.model_of(self._method, reply), requests)
            return None
        self._count(read(self._method, reply), requests)
        return None

    def close(self) -> None:
        """A stream that ended before it told its usage has cost the time since its first message."""
        if self._begun and not self._whole:
            cost = Cost(self._model, 0, 0, time.monotonic() - self._begun)
            self._till.count(self._request.tenant, cost, 0, cached=False)

    def _count(self, cost: Cost, requests: int) -> None:
        if self._method.name == "GenerateStream":
            cost = self._of_generation(cost)
        elif cost.model:
            self._model = cost.model
        elif self._method.client_streaming:
            # Told by the first reply of a session alone.
            cost = Cost(self._model, cost.prompt_tokens, cost.completion_tokens, cost.compute_s)
        self._till.count(self._request.tenant, cost, requests, cached=False)

    def _of_generation(self, cost: Cost) -> Cost:
        """Without the tokens that were counted as they came."""
        self._begun, self._model = self._begun or time.monotonic(), cost.model or self._model
        self._whole = cost.whole
        completion = max(0, cost.completion_tokens - self._completion) if cost.whole else cost.completion_tokens
        self._completion += completion
        return Cost(self._model, cost.prompt_tokens, completion, cost.compute_s)

    def _add_results(self, reply: Any) -> None:
        tenant, till = self._request.tenant, self._till
        found = list(of_results(reply))
        for cost, outcome in found:
            till.count(tenant, cost, 1, outcome in REMEMBERED)
        # The call itself was let in as one.
        more = len(found) - (self._replies == 1)
        if till.quotas is not None and more > 0:
            till.quotas.charge(tenant, REQUESTS, more)


def read(method: Method, reply: bytes | Message) -> Cost:
    """What a reply tells, read or unread; nothing if it does not parse."""
    try:
        message = reply if isinstance(reply, Message) else method.response.FromString(reply)
    except DecodeError:
        return Cost()
    return reader(method.response.DESCRIPTOR)(message)


def _paid() -> Iterable[Method]:
    for area, service in SERVICES.items():
        yield from methods_of(area, service)
    yield from _named(_FRONT, MANY)
    yield from _named(_OIP, OIP)


def _named(service: ServiceDescriptor, names: frozenset[str]) -> Iterable[Method]:
    return (method_of("", service.methods_by_name[name]) for name in sorted(names))
