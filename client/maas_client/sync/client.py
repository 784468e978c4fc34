"""Client: one channel, and a method for everything the suite does. Knows no message."""

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc

from maas.sequence.v1 import sequence_pb2
from maas_client import ask
from maas_client.ask.generation import Prompt, Writing, generate_stream
from maas_client.ask.words import Message
from maas_client.call import Ask, Which, how, info_of, which
from maas_client.connection import ADDRESS, Connecting, Manner
from maas_client.errors import error_of
from maas_client.ledger import Ledger
from maas_client.results import Delta
from maas_client.sync import streams
from maas_client.sync.chat import Chat
from maas_client.sync.methods import waited
from maas_client.sync.session import Session

R = TypeVar("R")


class Client:
    """`with Client("host:port", credential=…, tls=…) as client`; several threads may share it.

    Every call raises a MaasError where it fails, takes what `How` lists, and is cancelled at the server too when
    Ctrl-C ends the waiting. `channel` is for generated stubs.
    """

    def __init__(self, address: str = ADDRESS, **options: Unpack[Connecting]) -> None:
        self._manner = manner = Manner(address, options)
        if manner.tls is None:
            self.channel = grpc.insecure_channel(manner.target, options=manner.arguments)
        else:
            credentials = manner.tls.credentials()
            self.channel = grpc.secure_channel(manner.target, credentials, options=manner.arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the calls under way."""
        self.channel.close()

    def send(self, what: Ask[R], /) -> R:
        """Sends a call as a value."""
        metadata, request_id = self._manner.metadata(what.how)
        begin = self.channel.unary_unary(f"/{what.method}", _serialized, what.reply.FromString)
        try:
            reply, call = begin.with_call(what.request, timeout=self._manner.timeout(what.how), metadata=metadata)
        except grpc.RpcError as error:
            raise error_of(error, request_id) from None
        return what.read(reply, info_of(reply, dict(call.initial_metadata() or ()), request_id))

    tokenize = waited(ask.tokenize)
    detokenize = waited(ask.detokenize)
    count_tokens = waited(ask.count_tokens)
    render_chat = waited(ask.render_chat)
    classify_images = waited(ask.classify_images)
    embed_images = waited(ask.embed_images)
    explain_image = waited(ask.explain_image)
    classify_texts = waited(ask.classify_texts)
    classify_series = waited(ask.classify_series)
    embed_texts = waited(ask.embed_texts)
    embed_series = waited(ask.embed_series)
    explain_text = waited(ask.explain_text)
    explain_series = waited(ask.explain_series)
    transduce = waited(ask.transduce)
    forecast = waited(ask.forecast)
    generate = waited(ask.generate)
    score = waited(ask.score)
    fan_out = waited(ask.fan_out)
    run_pipeline = waited(ask.run_pipeline)
    run_steps = waited(ask.run_steps)
    pipelines = waited(ask.pipelines)
    models = waited(ask.models)
    model = waited(ask.model)
    status = waited(ask.status)

    def generate_stream(self, prompt: Prompt, **options: Unpack[Writing]) -> Iterator[Delta]:
        """Text as it is written. A stream that breaks goes on where it was, at any replica that keeps records."""
        what = generate_stream(prompt, **options)
        return streams.unbroken(
            what.request, self._manner.timeout(what.how), lambda *sent: self._stream(what, *sent)
        )

    def chat(self, system: str = "", messages: tuple[Message, ...] = (), **options: Unpack[Writing]) -> Chat:
        """A conversation that remembers itself; `messages` are what was said before."""
        return Chat(self.generate, self.generate_stream, system, messages, options)

    def session(
        self, session_id: str = "", *, resume: bool = False, sample_rate_hz: int = 0, **options: Unpack[Which]
    ) -> Session:
        """A net that remembers from step to step: `with client.session() as session`."""
        opening = sequence_pb2.OpenSession(
            **which(options), session_id=session_id, resume=resume, sample_rate_hz=sample_rate_hz
        )
        return Session(self.send, Ledger(opening), how(options))

    def _stream(self, what: Ask[Delta], request: Any, timeout_s: float) -> tuple[Any, str]:
        """A running GenerateStream call and its request id."""
        metadata, request_id = self._manner.metadata(what.how)
        begin = self.channel.unary_stream(f"/{what.method}", _serialized, what.reply.FromString)
        return begin(request, timeout=timeout_s, metadata=metadata), request_id


def _serialized(message: Any) -> bytes:
    found: bytes = message.SerializeToString()
    return found
