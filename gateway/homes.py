"""Calls that go on from what a replica holds: the key of each, read from its message. Chooses no replica."""

import secrets
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.message import DecodeError

from gateway.affinity import Key, prompt_key, session_key
from gateway.backends import Backend
from gateway.methods import Method
from maas.sequence.v1.sequence_service_pb2 import RunSessionRequest, StepSessionRequest
from services.runtime.context import current

PROMPTED = ("Generate", "GenerateStream")


def of_prompt(backend: Backend, method: Method, request: Any) -> Key | None:
    """Of a request for text; None of any other, and where there is no choice."""
    if method.name not in PROMPTED or len(backend.replicas) < 2:
        return None
    return prompt_key(current().tenant, request)


def of_step(body: bytes) -> tuple[bytes, Key | None]:
    """A StepSessionRequest as it is to be sent, and its session's key."""
    return _session(StepSessionRequest, body)


async def of_stream(requests: AsyncIterator[bytes]) -> tuple[AsyncIterator[bytes], Key | None]:
    """The same of a RunSession stream: waits for its first message, which names the session."""
    first = await anext(requests, None)
    if first is None:
        return requests, None
    body, key = _session(RunSessionRequest, first)
    return _after(body, requests), key


def of_sequence(request: Any) -> Key | None:
    """Of a step of the Open Inference Protocol; None of one without a sequence."""
    if "sequence_id" not in request.parameters:
        return None
    told = request.parameters["sequence_id"]
    return session_key(current().tenant, f"{request.model_name}\n{told.string_param or told.int64_param}")


def _session(kind: type[StepSessionRequest | RunSessionRequest], body: bytes) -> tuple[bytes, Key | None]:
    """A session without an id is given one here, so that it is opened where its steps will go."""
    try:
        request: Any = kind.FromString(body)
    except DecodeError:
        return body, None
    opened = request.open
    if request.HasField("open") and not (opened.session_id or opened.resume):
        opened.session_id = secrets.token_urlsafe(16)
        body = request.SerializeToString()
    named = opened.session_id or getattr(request, "session_id", "")
    return body, session_key(current().tenant, named) if named else None


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for body in rest:
        yield body
