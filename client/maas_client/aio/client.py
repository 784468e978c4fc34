"""AsyncClient: one channel, and a method for everything the suite does. Knows no message."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc
from grpc import aio

from maas.sequence.v1 import sequence_pb2
from maas.sequence.v1 import sequence_service_pb2 as session_pb
from maas_client import ask
from maas_client.aio import streams
from maas_client.aio.chat import Chat
from maas_client.aio.methods import awaited
from maas_client.aio.session import Session
from maas_client.ask.generation import Prompt, Writing, generate_stream
from maas_client.ask.words import Message
from maas_client.call import Ask, How, Which, how, info_of, which
from maas_client.connection import ADDRESS, Connecting, Manner
from maas_client.errors import error_of
from maas_client.ledger import Ledger
from maas_client.results import Delta

R = TypeVar("R")
RUN_SESSION = "/maas.sequence.v1.SequenceService/RunSession"


class AsyncClient:
    """`async with AsyncClient("host:port", credential=…, tls=…) as client`; made and used on one event loop.

    Every call raises a MaasError where it fails, takes what `How` lists, and is cancelled at the server too when
    its task is. `channel` is for generated stubs.
    """

    def __init__(self, address: str = ADDRESS, **options: Unpack[Connecting]) -> None:
        self._manner = manner = Manner(address, options)
        if manner.tls is None:
            self.channel = aio.insecure_channel(manner.target, options=manner.arguments)
        else:
            credentials = manner.tls.credentials()
            self.channel = aio.secure_channel(manner.target, credentials, options=manner.arguments)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the calls under way."""
        await self.channel.close()

    async def send(self, what: Ask[R], /) -> R:
        """Sends a call as a value."""
        metadata, request_id = self._manner.metadata(what.how)
        begin = self.channel.unary_unary(f"/{what.method}", _serialized, what.reply.FromString)
        call = begin(what.request, timeout=self._manner.timeout(what.how), metadata=metadata)
        try:
            reply = await call
            told = dict(await call.initial_metadata() or ())
        except grpc.RpcError as error:
            raise error_of(error, request_id) from None
        return what.read(reply, info_of(reply, told, request_id))

    tokenize = awaited(ask.tokenize)
    detokenize = awaited(ask.detokenize)
    count_tokens = awaited(ask.count_tokens)
    render_chat = awaited(ask.render_chat)
    classify_images = awaited(ask.classify_images)
    embed_images = awaited(ask.embed_images)
    explain_image = awaited(ask.explain_image)
    classify_texts = awaited(ask.classify_texts)
    classify_series = awaited(ask.classify_series)
    embed_texts = awaited(ask.embed_texts)
    embed_series = awaited(ask.embed_series)
    explain_text = awaited(ask.explain_text)
    explain_series = awaited(ask.explain_series)
    transduce = awaited(ask.transduce)
    forecast = awaited(ask.forecast)
    generate = awaited(ask.generate)
    score = awaited(ask.score)
    fan_out = awaited(ask.fan_out)
    run_pipeline = awaited(ask.run_pipeline)
    run_steps = awaited(ask.run_steps)
    pipelines = awaited(ask.pipelines)
    models = awaited(ask.models)
    model = awaited(ask.model)
    status = awaited(ask.status)

    def generate_stream(self, prompt: Prompt, **options: Unpack[Writing]) -> AsyncIterator[Delta]:
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
        """A net that remembers from step to step: `async with client.session() as session`."""
        opening = sequence_pb2.OpenSession(
            **which(options), session_id=session_id, resume=resume, sample_rate_hz=sample_rate_hz
        )
        told = how(options)
        return Session(lambda: self._run_session(told), Ledger(opening), self._manner.timeout(told))

    def _stream(self, what: Ask[Delta], request: Any, timeout_s: float) -> tuple[Any, str]:
        """A running GenerateStream call and its request id."""
        metadata, request_id = self._manner.metadata(what.how)
        begin = self.channel.unary_stream(f"/{what.method}", _serialized, what.reply.FromString)
        return begin(request, timeout=timeout_s, metadata=metadata), request_id

    def _run_session(self, how: How) -> tuple[Any, str]:
        metadata, request_id = self._manner.metadata(how)
        begin = self.channel.stream_stream(RUN_SESSION, _serialized, session_pb.RunSessionResponse.FromString)
        return begin(metadata=metadata), request_id


def _serialized(message: Any) -> bytes:
    found: bytes = message.SerializeToString()
    return found
