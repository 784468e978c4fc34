"""What is asked of the gateway alone: several calls as one, pipelines, how it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

import numpy as np

from maas.gateway.v1 import gateway_pb2
from maas.gateway.v1 import gateway_service_pb2 as pb
from maas_client import arrays, pictures
from maas_client.ask import generation, sequence, tokenization, words
from maas_client.call import Ask, CallInfo, How, Read, how, info_of
from maas_client.errors import of_status
from maas_client.pictures import Picture
from maas_client.results import Backend, Batch, Outcome, Status

SERVICE = "maas.gateway.v1.GatewayService"
# How the reply of each kind of call is read; and the kinds by their requests.
READERS: Mapping[str, Read[Any]] = {
    "tokenize": tokenization.encodings,
    "detokenize": tokenization.texts_of,
    "count_tokens": tokenization.counts,
    "render_chat": tokenization.rendered,
    "classify_image": words.classifications,
    "embed_image": words.embeddings,
    "classify_sequence": words.classifications,
    "embed_sequence": words.embeddings,
    "transduce": sequence.transductions,
    "forecast": sequence.forecast_of_one,
    "generate": generation.generated,
    "score": generation.scored,
}
KINDS = {type(getattr(gateway_pb2.Call(), name)): name for name in READERS}
# An input of a pipeline: text, texts, a picture, a conversation, a series, a number or a flag.
Input = str | bool | int | float | Picture | Sequence[str] | Sequence[words.Message]


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a pipeline: `ask`, with places of its request filled from replies of other steps.

    `bindings`: path in the request (`texts[0]`) → path in a reply (`labels.results[0].labels[0].name`), or
    (path, template) where text is made of it.
    """

    name: str
    ask: Ask[Any]
    bindings: Mapping[str, str | tuple[str, str]] = field(default_factory=dict)
    best_effort: bool = False


def fan_out(
    calls: Mapping[str, Ask[Any]],
    *,
    max_parallel: int | None = None,
    fail_fast: bool = False,
    **options: Unpack[How],
) -> Ask[Batch[Outcome]]:
    """Several calls at once, each with its result or its error; a call's own `timeout_s` holds for it alone."""
    request = pb.FanOutRequest(max_parallel=max_parallel, fail_fast=fail_fast)
    request.calls.extend(_call(name, ask) for name, ask in calls.items())
    reads = {name: ask.read for name, ask in calls.items()}
    return Ask(f"{SERVICE}/FanOut", request, pb.FanOutResponse, _outcomes(reads), how(options))


def run_pipeline(
    name: str, inputs: Mapping[str, Input], *, fail_fast: bool = False, **options: Unpack[How]
) -> Ask[Batch[Outcome]]:
    """A pipeline stored at the gateway, by its name."""
    given = {key: _input(value) for key, value in inputs.items()}
    request = pb.RunPipelineRequest(name=name, inputs=given, fail_fast=fail_fast)
    return Ask(f"{SERVICE}/RunPipeline", request, pb.RunPipelineResponse, _outcomes({}), how(options))


def run_steps(steps: Sequence[Step], *, fail_fast: bool = False, **options: Unpack[How]) -> Ask[Batch[Outcome]]:
    """A pipeline of one's own."""
    request = pb.RunPipelineRequest(fail_fast=fail_fast)
    request.steps.values.extend(map(_step, steps))
    reads = {step.name: step.ask.read for step in steps}
    return Ask(f"{SERVICE}/RunPipeline", request, pb.RunPipelineResponse, _outcomes(reads), how(options))


def pipelines(**options: Unpack[How]) -> Ask[Mapping[str, str]]:
    """Names of the stored pipelines, and what each is for."""

    def read(reply: Any, _: CallInfo) -> Mapping[str, str]:
        return {one.name: one.description for one in reply.pipelines}

    method = f"{SERVICE}/ListPipelines"
    return Ask(method, pb.ListPipelinesRequest(), pb.ListPipelinesResponse, read, how(options))


def status(**options: Unpack[How]) -> Ask[Status]:
    """The gateway and the processes behind it."""
    return Ask(f"{SERVICE}/GetStatus", pb.GetStatusRequest(), pb.GetStatusResponse, _status, how(options))


def _call(name: str, ask: Ask[Any]) -> gateway_pb2.Call:
    """ValueError for what the gateway does not take into a fan-out."""
    kind = KINDS.get(type(ask.request))
    if kind is None:
        raise ValueError(
            f"{name}: {ask.method} is no part of a fan-out or a pipeline; these are: {', '.join(READERS)}"
        )
    call = gateway_pb2.Call(id=name)
    getattr(call, kind).CopyFrom(ask.request)
    if "timeout_s" in ask.how:
        call.timeout_ms = max(1, round(ask.how["timeout_s"] * 1000))
    return call


def _step(step: Step) -> gateway_pb2.Step:
    call = _call("", step.ask)
    made = gateway_pb2.Step(name=step.name, request=call, best_effort=step.best_effort)
    kind = call.WhichOneof("request")
    for target, source in step.bindings.items():
        path, template = (source, "") if isinstance(source, str) else source
        made.bindings.add(target_path=f"{kind}.{target}", source_path=path, template=template)
    return made


def _input(value: Any) -> gateway_pb2.Input:
    """TypeError for what is no input. A text is a text: a picture's file is given as a Path."""
    simple = {bool: "flag", int: "integer", float: "number", str: "text"}
    if type(value) in simple:
        return gateway_pb2.Input(**{simple[type(value)]: value})
    if isinstance(value, list | tuple):
        if all(isinstance(one, str) for one in value):
            return gateway_pb2.Input(texts={"values": value})  # type: ignore[arg-type]
        return gateway_pb2.Input(chat={"messages": words.turns(value)})  # type: ignore[arg-type]
    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim < 3:
        return gateway_pb2.Input(series=arrays.series(value))
    return gateway_pb2.Input(image=pictures.image(value))


def _outcomes(reads: Mapping[str, Read[Any]]) -> Read[Batch[Outcome]]:
    """`reads`: by name, how the asks themselves read their replies."""

    def read(reply: Any, info: CallInfo) -> Batch[Outcome]:
        found = (outcome(one, reads.get(one.id), info.request_id) for one in reply.results)
        return Batch(tuple(found), info)

    return read


def outcome(result: gateway_pb2.CallResult, read: Read[Any] | None, request_id: str) -> Outcome:
    kind = result.WhichOneof("reply") or "status"
    reply = getattr(result, kind)
    if kind == "status":
        return Outcome(result.id, None, of_status(reply, request_id), result.elapsed_ms)
    info = info_of(reply, {"x-maas-cache": result.cache}, request_id)
    return Outcome(result.id, (read or READERS[kind])(reply, info), None, result.elapsed_ms)


def _status(reply: Any, _: CallInfo) -> Status:
    backends = tuple(
        Backend(one.service, one.address, one.health, one.in_flight, one.calls, one.failures)
        for one in reply.backends
    )
    return Status(reply.version, reply.uptime_s, reply.in_flight, reply.cache.redis, backends)
