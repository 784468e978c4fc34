"""One run of a pipeline: each step filled from what ended before it, called, and its end kept for the next."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from gateway.budget import Budget
from gateway.fanout import DEFAULT_PARALLEL
from gateway.one_call import Caller, Finished, ended
from gateway.steps import graph
from gateway.steps.check import Plan
from gateway.steps.paths import PathError
from gateway.steps.templates import TooLong
from gateway.steps.values import put, weight
from maas.gateway.v1 import gateway_pb2
from services.runtime.errors import Code, PreconditionFailed, ServiceError

SKIPPED, UNBOUND = "STEP_SKIPPED", "BINDING_UNMET"


class Run:
    """Used once. The calls are this run's own: they are written into."""

    def __init__(
        self,
        plan: Plan,
        calls: Sequence[gateway_pb2.Call],
        inputs: Mapping[str, Any],
        caller: Caller,
        budget: Budget,
    ) -> None:
        """`calls`: a call for each step, by its name; `inputs`: by root, as links name them."""
        self._plan, self._caller, self._budget = plan, caller, budget
        self._calls = {call.id: (index, call) for index, call in enumerate(calls)}
        # Replies of steps and inputs, by root; statuses of the steps without a reply, by name.
        self._found: dict[str, Any] = dict(inputs)
        self._failed: dict[str, Any] = {}
        self._gate = asyncio.Semaphore(DEFAULT_PARALLEL)

    async def results(self) -> AsyncGenerator[Finished, None]:
        """Each step's end, once, as it comes."""
        async with aclosing(graph.in_order(self._plan.needs, self._step)) as ends:
            async for finished in ends:
                yield finished

    async def _step(self, name: str) -> Finished:
        index, call = self._calls[name]
        started = time.monotonic()
        try:
            self._check_needs(name)
            async with self._gate:
                self._fill(name, call)
                finished = await self._caller.finish(index, call)
            self._keep(name, finished.result)
        except _Skip as skip:
            finished = replace(ended(index, call, skip.why, started), fatal=None)
        except ServiceError as error:
            finished = ended(index, call, error, started)
        if finished.result.WhichOneof("reply") == "status":
            self._failed[name] = finished.result.status
        return finished

    def _check_needs(self, name: str) -> None:
        for need in self._plan.needs[name]:
            if need in self._failed:
                raise _Skip(name, need, self._failed[need])

    def _fill(self, name: str, call: gateway_pb2.Call) -> None:
        request = getattr(call, call.WhichOneof("request") or "")
        for number, link in enumerate(self._plan.links[name]):
            try:
                value = link.value(self._found, self._budget.left)
                self._budget.spend(weight(value))
                put(request, link.target, link.leaf, value)
            except PathError as error:
                raise PreconditionFailed(f"bindings[{number}]: {error}", reason=UNBOUND) from None
            except TooLong:
                raise self._budget.refusal() from None

    def _keep(self, name: str, result: gateway_pb2.CallResult) -> None:
        self._budget.spend(result.ByteSize())
        self._found[name] = getattr(result, result.WhichOneof("reply") or "")


class _Skip(Exception):
    """A step cannot begin: another that it needs has no reply."""

    def __init__(self, name: str, need: str, status: Any) -> None:
        code = Code(status.code).name
        told = f"step {name!r} was skipped: it needs {need!r}, which ended with {code}: {status.message}"
        self.why = PreconditionFailed(told, reason=SKIPPED, metadata={"step": need})
