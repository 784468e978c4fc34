"""Calls any method of the suite by name, of any of the four shapes. Prints nothing."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.rpc import code_pb2, status_pb2

from maas.admin.v1 import admin_service_pb2
from maas.gateway.v1 import gateway_service_pb2
from maas.generation.v1 import generation_service_pb2
from maas.model.v1 import model_service_pb2
from maas.oip.v1 import grpc_service_pb2
from maas.sequence.v1 import sequence_service_pb2
from maas.tokenization.v1 import tokenization_service_pb2
from maas.vision.v1 import vision_service_pb2
from services.runtime.channels import client_options, target_of
from services.runtime.errors import NotFound
from services.runtime.status import status_of
from services.runtime.tls.credentials import of_client
from services.runtime.tls.settings import TlsSettings

STUBS = (
    tokenization_service_pb2,
    vision_service_pb2,
    sequence_service_pb2,
    generation_service_pb2,
    model_service_pb2,
    gateway_service_pb2,
    admin_service_pb2,
    grpc_service_pb2,
)
MAX_MESSAGE_BYTES = 64 * 1024 * 1024


class CallFailed(Exception):
    """A call ended with another status than OK; `request_id` finds it in the servers' logs."""

    def __init__(self, status: status_pb2.Status, request_id: str) -> None:
        super().__init__(status.message)
        self.status = status
        self.request_id = request_id

    @property
    def nobody(self) -> bool:
        """Whether no server of the suite was met: each would have told a request id."""
        return self.status.code == code_pb2.UNAVAILABLE and not self.request_id


@dataclass(slots=True)
class Answer:
    """One finished call: its messages, what the metadata said, and the time it took here."""

    replies: list[Message] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    elapsed_ms: float = 0.0
    streamed: bool = False

    @property
    def reply(self) -> Any:
        """The last, or only, message."""
        return self.replies[-1]


class Client:
    """A channel to one address; `metadata` and `timeout_s` go with every call."""

    def __init__(
        self, address: str, timeout_s: float, metadata: Mapping[str, str], tls: TlsSettings | None = None
    ) -> None:
        """`tls`: by what to know the server; None or empty = in clear."""
        self._channel = _channel(address, tls)
        self._timeout_s = timeout_s
        self._metadata = tuple(metadata.items())

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def call(self, method: str, *requests: Message) -> Answer:
        """The whole answer, streamed or not."""
        answer = Answer()
        for _ in self.stream(method, requests, answer):
            pass
        return answer

    def stream(self, method: str, requests: Iterable[Message], answer: Answer) -> Iterator[Any]:
        """Each message as it comes; `answer` is filled on the way. CallFailed where the call fails."""
        began = time.perf_counter()
        wanted = find_method(method)
        answer.streamed = bool(wanted.server_streaming)
        call = self._start(wanted, requests)
        try:
            for reply in call:
                answer.replies.append(reply)
                yield reply
            answer.metadata = plain(call.initial_metadata()) | plain(call.trailing_metadata())
        except grpc.RpcError as error:
            told = plain(error.initial_metadata()) | plain(error.trailing_metadata())
            raise CallFailed(status_of(error), told.get("x-request-id", "")) from error
        finally:
            answer.elapsed_ms = (time.perf_counter() - began) * 1000
            call.cancel()

    def _start(self, method: MethodDescriptor, requests: Iterable[Message]) -> Any:
        """The running call; it iterates over its replies whatever the shape, as the wire knows only streams."""
        begin = self._channel.stream_stream(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        return begin(iter(requests), timeout=self._timeout_s, metadata=self._metadata)


def _channel(address: str, tls: TlsSettings | None) -> grpc.Channel:
    options = client_options(MAX_MESSAGE_BYTES)
    if tls is None or not tls.tls_paths:
        return grpc.insecure_channel(target_of(address), options=options)
    named = (("grpc.ssl_target_name_override", tls.tls_server_name),) if tls.tls_server_name else ()
    return grpc.secure_channel(target_of(address), of_client(tls.read_tls()), options=(*options, *named))


def plain(metadata: Any) -> dict[str, str]:
    """Text metadata as a dict."""
    return {key: value for key, value in metadata or () if isinstance(value, str)}


def services() -> list[ServiceDescriptor]:
    """Every service of the contracts."""
    pool = descriptor_pool.Default()
    files = [pool.FindFileByName(stub.DESCRIPTOR.name) for stub in STUBS]
    return [service for file in files for service in file.services_by_name.values()]


def find_method(name: str) -> MethodDescriptor:
    """`SERVICE/METHOD`, the service by its full or its last name. NotFound names what there is."""
    service_name, _, method_name = name.strip("/").partition("/")
    matching = [s for s in services() if service_name in (s.full_name, s.name)]
    if not matching:
        raise NotFound("service", service_name, [service.full_name for service in services()])
    method: MethodDescriptor | None = matching[0].methods_by_name.get(method_name)
    if method is None:
        raise NotFound("method", name, [known.name for known in matching[0].methods])
    return method


def request_class(method: MethodDescriptor) -> type[Message]:
    """The message that the method takes."""
    return message_factory.GetMessageClass(method.input_type)
