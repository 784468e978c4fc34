"""`maas call generate`: a prompt or a chat message in, text out, whole or as it comes."""

import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from cli import calling
from cli.client import Answer, CallFailed, Client
from maas.generation.v1 import generation_pb2, generation_service_pb2
from services.runtime.errors import Code

SERVICE = "maas.generation.v1.GenerationService"

# Where the way to the stream broke, or its server left: see `unbroken`.
BROKEN = (Code.UNAVAILABLE, Code.CANCELLED)
PAUSES_S = (0.1, 0.5, 1.0, 2.0, 4.0)

Scale = Annotated[float | None, typer.Option(show_default=False)]
Count = Annotated[int | None, typer.Option(show_default=False)]


def generate(
    context: typer.Context,
    prompt: str,
    chat: Annotated[bool, typer.Option("--chat", help="The prompt is a user's message.")] = False,
    stream: Annotated[bool, typer.Option("--stream", help="Print text as it comes.")] = False,
    system: Annotated[str, typer.Option(help="System message of the chat.", show_default=False)] = "",
    temperature: Scale = None,
    top_p: Scale = None,
    top_k: Count = None,
    seed: Count = None,
    max_tokens: Count = None,
    stop: Annotated[list[str] | None, typer.Option(help="Text that ends the output.")] = None,
    model: str = "",
    version: str = "",
) -> None:
    """Prompt → text."""
    fields: dict[str, Any] = {
        "model": model,
        "version": version,
        "sampling": given(generation_pb2.Sampling, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed),
        "stopping": given(generation_pb2.Stopping, max_tokens=max_tokens, stop=stop),
        **({"chat": conversation(system, prompt)} if chat else {"text": prompt}),
    }
    options = calling.of(context)
    if not stream:
        request = generation_service_pb2.GenerateRequest(**fields)
        return options.run(f"{SERVICE}/Generate", request, show_texts)
    return print_stream(options, generation_service_pb2.GenerateStreamRequest(**fields))


def given(message: Any, **values: Any) -> Any:
    """A message with the fields that were given; the others stay unset, which is not zero."""
    return message(**{name: value for name, value in values.items() if value is not None})


def conversation(system: str, prompt: str) -> generation_pb2.Chat:
    """One user message, after a system message if there is one."""
    first = [generation_pb2.Message(role="system", content=system)] if system else []
    return generation_pb2.Chat(messages=[*first, generation_pb2.Message(role="user", content=prompt)])


def show_texts(answer: Answer) -> None:
    """Each completion's text."""
    for completion in answer.reply.completions:
        print(completion.text)


def print_stream(options: calling.Calling, request: generation_service_pb2.GenerateStreamRequest) -> None:
    """Text as it comes; JSON waits for the end."""
    answer = Answer()
    with options.client() as client:
        for reply in unbroken(client, request, answer):
            if not options.json:
                print(reply.text_delta, end="", flush=True)
    options.finish(answer, lambda _: print())


def unbroken(
    client: Client, request: generation_service_pb2.GenerateStreamRequest, answer: Answer
) -> Iterator[Any]:
    """The messages of a stream; where it breaks, it is resumed. CallFailed where that does not help."""
    pauses = iter(PAUSES_S)
    while True:
        arrived = len(answer.replies)
        try:
            yield from client.stream(f"{SERVICE}/GenerateStream", [request], answer)
            return
        except CallFailed as error:
            if len(answer.replies) > arrived:
                pauses = iter(PAUSES_S)
            pause_s = next(pauses, None)
            if error.status.code not in BROKEN or not answer.replies or pause_s is None:
                raise
            time.sleep(pause_s)
            request = after(answer.replies)


def after(replies: Sequence[Any]) -> generation_service_pb2.GenerateStreamRequest:
    """Asks for what comes after the messages that arrived."""
    place = generation_pb2.Resume(
        stream_id=replies[0].stream_id, after_sequence_number=replies[-1].sequence_number
    )
    return generation_service_pb2.GenerateStreamRequest(resume=place)
