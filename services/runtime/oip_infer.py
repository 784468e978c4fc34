"""One request of the Open Inference Protocol: check → read → infer → reply. Knows no stream and no model."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from maas.oip.v1 import grpc_service_pb2 as pb
from services.runtime.context import current, enter
from services.runtime.errors import InvalidInput, Overloaded
from services.runtime.host import ModelHost
from services.runtime.oip_checks import check_inputs, check_version, requested
from services.runtime.oip_classes import top
from services.runtime.oip_model import Infer, Inferable, Sequencer
from services.runtime.oip_parameters import Asked, asked
from services.runtime.oip_statistics import Tallies
from services.runtime.oip_tensors import Array, read_inputs, write_outputs

# Elements read or written on the event loop, one by one or copied as a block; more go to a thread, whose start
# costs as much.
MOST_SINGLE, MOST_BLOCK = 4096, 256 * 1024
# A stream's request waits for a place in a full queue: it looks ever more seldom, at most so long.
FIRST_LOOK_S, LAST_LOOK_S, PATIENCE_S = 0.005, 0.1, 30.0


class Inference:
    """`sequences` is None where no model keeps state between requests."""

    def __init__(self, host: ModelHost[Any], tallies: Tallies, sequences: Sequencer | None) -> None:
        self._host, self._tallies, self._sequences = host, tallies, sequences

    async def answer(self, request: pb.ModelInferRequest, patient: bool = False) -> pb.ModelInferResponse:
        """The reply. When the model's queue is full: Overloaded, or if `patient` it waits for a place."""
        check_version(request.model_version)
        wish = asked(request.parameters)
        _shorten(wish.timeout_s)
        # Nothing is awaited before a sequence's turn is asked for: requests begun in order get it in order.
        async with self._taken(request, wish) as (model, infer):
            tally, began = self._tallies.of(model.manifest.name, model.manifest.version), time.monotonic_ns()
            try:
                check_inputs(request, model.oip_inputs, model.oip_rows)
                wanted = requested(request, model.oip_outputs)
                inputs = await _read(request)
                asked_at = time.monotonic_ns()
                found = await (_patiently(infer, inputs) if patient else infer(inputs, current().deadline))
                found_at = time.monotonic_ns()
                reply = await _replied(request, model, {name: found[name] for name in wanted}, wanted, wish.raw)
            except BaseException:
                tally.failed(time.monotonic_ns() - began)
                raise
            done_at = time.monotonic_ns()
            tally.succeeded(_rows(request), asked_at - began, done_at - found_at, done_at - began)
            return reply

    @asynccontextmanager
    async def _taken(self, request: pb.ModelInferRequest, wish: Asked) -> AsyncIterator[tuple[Inferable, Infer]]:
        if wish.sequence is None:
            with self._host.lease(request.model_name, request.model_version, "") as model:
                yield model, model.infer
        elif self._sequences is None:
            raise InvalidInput(
                "parameters[sequence_id]",
                "no model here keeps state between requests; leave it out",
                reason="NO_STATE",
            )
        else:
            turn = self._sequences.turn(request.model_name, request.model_version, wish.sequence)
            async with turn as taken:
                yield taken


def _shorten(timeout_s: float | None) -> None:
    """The call's own task has a context of its own: nobody else sees the shorter deadline."""
    if timeout_s is not None:
        context, own = current(), time.monotonic() + timeout_s
        enter(replace(context, deadline=own if context.deadline is None else min(own, context.deadline)))


async def _patiently(infer: Infer, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    end, pause = time.monotonic() + PATIENCE_S, FIRST_LOOK_S
    while True:
        try:
            return await infer(inputs, current().deadline)
        except Overloaded as error:
            if error.reason != "QUEUE_FULL" or time.monotonic() >= end:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, LAST_LOOK_S)
        current().check_deadline()


def _rows(request: pb.ModelInferRequest) -> int:
    return int(request.inputs[0].shape[0])


async def _read(request: pb.ModelInferRequest) -> dict[str, Array]:
    """The inputs, whose shapes are checked: what is read is no more than they say."""
    single = not request.raw_input_contents or any(tensor.datatype == "BYTES" for tensor in request.inputs)
    elements = sum(math.prod(tensor.shape) for tensor in request.inputs)
    if elements <= (MOST_SINGLE if single else MOST_BLOCK):
        return read_inputs(request)
    return await asyncio.to_thread(read_inputs, request)


async def _replied(
    request: pb.ModelInferRequest,
    model: Inferable,
    outputs: Mapping[str, Array],
    wanted: Mapping[str, int],
    raw: bool | None,
) -> pb.ModelInferResponse:
    raw = bool(request.raw_input_contents) if raw is None else raw
    single = not raw or any(wanted.values()) or any(array.dtype.hasobject for array in outputs.values())
    elements = sum(array.size for array in outputs.values())
    if elements <= (MOST_SINGLE if single else MOST_BLOCK):
        return _reply(request, model, outputs, wanted, raw)
    return await asyncio.to_thread(_reply, request, model, outputs, wanted, raw)


def _reply(
    request: pb.ModelInferRequest,
    model: Inferable,
    outputs: Mapping[str, Array],
    wanted: Mapping[str, int],
    raw: bool,
) -> pb.ModelInferResponse:
    response = pb.ModelInferResponse(
        model_name=model.manifest.name, model_version=str(model.manifest.version), id=request.id
    )
    datatypes = {spec.name: "BYTES" if wanted.get(spec.name) else spec.dtype for spec in model.oip_outputs}
    told = {
        name: top(array, wanted[name], model.oip_labels.get(name, ())) if wanted[name] else array
        for name, array in outputs.items()
    }
    write_outputs(response, told, datatypes, raw)
    return response
