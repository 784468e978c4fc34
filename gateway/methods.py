"""What the gateway forwards, read from the contracts. Knows no cache and no network."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from maas.generation.v1 import generation_service_pb2
from maas.sequence.v1 import sequence_service_pb2
from maas.tokenization.v1 import tokenization_service_pb2
from maas.vision.v1 import vision_service_pb2

SERVICES: Mapping[str, ServiceDescriptor] = {
    "tokenization": tokenization_service_pb2.DESCRIPTOR.services_by_name["TokenizationService"],
    "vision": vision_service_pb2.DESCRIPTOR.services_by_name["VisionService"],
    "sequence": sequence_service_pb2.DESCRIPTOR.services_by_name["SequenceService"],
    "generation": generation_service_pb2.DESCRIPTOR.services_by_name["GenerationService"],
}

# Method → the task whose default model answers when a request names none.
_TASKS = {
    "Tokenize": "tokenization.tokenize",
    "Detokenize": "tokenization.tokenize",
    "CountTokens": "tokenization.tokenize",
    "RenderChat": "tokenization.tokenize",
    "GetTokenizer": "tokenization.tokenize",
    "Generate": "generation.generate",
    "Score": "generation.generate",
    "Transduce": "sequence.transduce",
    "Forecast": "sequence.forecast",
}
# Texts and series have different defaults behind one RPC.
_TEXT_TASK = "sequence.classify.text"
_TEXT_INPUTS = frozenset({"texts", "token_ids", "text"})
# Answers of a session depend on what came before.
_STATEFUL = frozenset({"StepSession"})


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC of a service behind the gateway."""

    path: str
    name: str
    area: str
    request: type[Message]
    response: type[Message]
    client_streaming: bool = False
    server_streaming: bool = False

    @property
    def stateful(self) -> bool:
        """Whether a call changes what the next one is answered: it must not be sent twice."""
        return self.name in _STATEFUL

    @property
    def remembers(self) -> bool:
        """Whether its answers may be cached at all: unary, and a function of request and model alone."""
        return not (self.client_streaming or self.server_streaming or self.stateful)

    @property
    def costly(self) -> bool:
        """Whether it pays to wait for another gateway's computation: a tokenizer answers sooner than Redis can say
        who is at it."""
        return self.area != "tokenization"

    def chats(self, request: Any) -> bool:
        """Whether the prompt is made by the model's chat template."""
        prompt = request.WhichOneof("prompt") if "prompt" in self.request.DESCRIPTOR.oneofs_by_name else None
        return self.name == "RenderChat" or prompt == "chat"

    def task(self, request: Any) -> str:
        """The task whose default model a request without `model` means."""
        if self.name in _TASKS:
            return _TASKS[self.name]
        if self.area == "sequence" and self.name in ("Classify", "Explain"):
            return _TEXT_TASK if request.WhichOneof("input") in _TEXT_INPUTS else "sequence.classify"
        return f"{self.area}.{'embed' if self.name == 'Embed' else 'classify'}"


def methods_of(area: str, service: ServiceDescriptor) -> list[Method]:
    """Every RPC of a service's contract."""
    return [method_of(area, found) for found in service.methods]


def method_of(area: str, found: MethodDescriptor) -> Method:
    return Method(
        path=f"/{found.containing_service.full_name}/{found.name}",
        name=found.name,
        area=area,
        request=GetMessageClass(found.input_type),
        response=GetMessageClass(found.output_type),
        client_streaming=found.client_streaming,
        server_streaming=found.server_streaming,
    )


def by_request(methods: Iterable[Method]) -> dict[str, Method]:
    """Unary methods by the full name of their request type, which is each method's own."""
    return {m.request.DESCRIPTOR.full_name: m for m in methods if not (m.client_streaming or m.server_streaming)}
