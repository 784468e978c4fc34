"""`maas call generate`: a prompt or a chat message in, text out, whole or as it comes."""

from typing import Annotated, Any

import typer

from cli import calling
from cli.client import Answer
from maas.generation.v1 import generation_pb2, generation_service_pb2

SERVICE = "maas.generation.v1.GenerationService"

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
        for reply in client.stream(f"{SERVICE}/GenerateStream", [request], answer):
            if not options.json:
                print(reply.text_delta, end="", flush=True)
    options.finish(answer, lambda _: print())
