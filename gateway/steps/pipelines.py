"""Pipelines as they are asked for: given in the request or by name, inputs matched, run to the end."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from gateway.budget import Budget
from gateway.convert import of_step
from gateway.one_call import Caller, Finished
from gateway.steps.check import Plan, plan
from gateway.steps.links import INPUTS, input_root
from gateway.steps.run import Run
from gateway.steps.shelf import Shelf
from gateway.steps.stored import Stored
from maas.gateway.v1 import gateway_pb2, gateway_service_pb2
from services.runtime.errors import InvalidInput

LARGE_BYTES = 16 * 1024
Request = gateway_service_pb2.RunPipelineRequest | gateway_service_pb2.RunPipelineStreamRequest
Inputs = Mapping[str, gateway_pb2.Input]


class Pipelines:
    """Checks and runs pipelines; `most_bytes` bounds what one of them copies and holds."""

    def __init__(self, caller: Caller, shelf: Shelf, most_bytes: int) -> None:
        self._caller, self._shelf, self._most_bytes = caller, shelf, most_bytes

    async def run(self, request: Request) -> AsyncGenerator[Finished, None]:
        """Each step as it ends. Under fail_fast the first fatal failure is raised after it was yielded.

        Raises InvalidInput or NotFound before anything runs.
        """
        chosen, calls, inputs = await self._chosen(request)
        found = {input_root(name): value for name, value in inputs.items()}
        budget = Budget(self._most_bytes, "what bindings copy and steps reply", "PIPELINE_TOO_LARGE")
        run = Run(chosen, calls, found, self._caller, budget)
        async with aclosing(run.results()) as ends:
            async for finished in ends:
                yield finished
                if request.fail_fast and finished.fatal is not None:
                    raise of_step(finished.result.id, finished.fatal)

    def stored(self) -> list[gateway_pb2.Pipeline]:
        """Every pipeline that has a name."""
        return [stored.pipeline for stored in self._shelf.all()]

    async def _chosen(self, request: Request) -> tuple[Plan, list[gateway_pb2.Call], Inputs]:
        if request.WhichOneof("pipeline") == "name":
            return self._stored(request)
        # Many bindings are checked on another thread: nobody else waits meanwhile.
        large = request.ByteSize() > LARGE_BYTES
        return await asyncio.to_thread(_given, request) if large else _given(request)

    def _stored(self, request: Request) -> tuple[Plan, list[gateway_pb2.Call], Inputs]:
        stored = self._shelf[request.name]
        copy = gateway_pb2.Pipeline()
        copy.CopyFrom(stored.pipeline)
        return stored.plan, _calls(copy.steps), _matched(stored, request.inputs)


def _given(request: Request) -> tuple[Plan, list[gateway_pb2.Call], Inputs]:
    types = {name: value.WhichOneof("value") or "" for name, value in request.inputs.items()}
    for name, kind in types.items():
        if not kind:
            raise InvalidInput(f"{INPUTS}[{name}]", f"is empty; set one of {', '.join(_KINDS)}")
    steps = request.steps.values
    return plan(steps, types, "steps.values"), _calls(steps), request.inputs


def _calls(steps: Sequence[gateway_pb2.Step]) -> list[gateway_pb2.Call]:
    """The steps' own calls, under the steps' names."""
    for step in steps:
        step.request.id = step.name
        step.request.best_effort |= step.best_effort
    return [step.request for step in steps]


def _matched(stored: Stored, given: Inputs) -> Inputs:
    """What the caller gave, and the defaults of the rest. Raises InvalidInput for what is missing or of no use."""
    declared = stored.pipeline.inputs
    have = ", ".join(f"{name} ({declared[name].type})" for name in sorted(declared)) or "none"
    for name, value in given.items():
        if name not in declared:
            raise InvalidInput(f"{INPUTS}[{name}]", f"{stored.pipeline.name} takes no such input; it takes {have}")
        if value.WhichOneof("value") != declared[name].type:
            raise InvalidInput(f"{INPUTS}[{name}]", f"must be of type {declared[name].type}")
    for name, wanted in declared.items():
        if name not in given and not wanted.HasField("default"):
            raise InvalidInput(f"{INPUTS}[{name}]", f"must be set; {stored.pipeline.name} takes {have}")
    return {name: given.get(name, wanted.default) for name, wanted in declared.items()}


_KINDS = tuple(gateway_pb2.Input.DESCRIPTOR.fields_by_name)
