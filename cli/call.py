"""`maas call …`: one command for each thing the suite can do, and any method by its name."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.json_format import ParseDict, ParseError
from typer.core import TyperGroup

from cli import calling, fanout, pipeline, speech
from cli.answers import footer, print_embeddings, print_labels, print_reply
from cli.calling import ADDRESS, CREDENTIAL, Address, AsJson, CacheControl, Calling, Timeout
from cli.client import Answer, find_method, request_class
from cli.generate import generate
from cli.render import out
from cli.tls import tls_of
from maas.common.v1 import tensor_pb2
from maas.sequence.v1 import sequence_service_pb2
from maas.tokenization.v1 import tokenization_pb2, tokenization_service_pb2
from maas.vision.v1 import vision_pb2, vision_service_pb2
from services.runtime.errors import InvalidInput

Model = Annotated[str, typer.Option(help="Model; left out: the service's default.", show_default=False)]
Version = Annotated[str, typer.Option(help="Version or label.", show_default=False)]


VALUED = ("--address", "--timeout", "--cache-control")


class MethodGroup(TyperGroup):
    """A first word with a slash is a method: `maas call SERVICE/METHOD JSON`."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """The group's own options may stand anywhere before `--`."""
        return super().parse_args(ctx, hoisted(args))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Hand SERVICE/METHOD to the `method` command."""
        return super().resolve_command(ctx, ["method", *args] if "/" in args[0] else args)


def hoisted(args: list[str]) -> list[str]:
    """The group's options, with their values, in front of everything else."""
    given = iter(args)
    own: list[str] = []
    rest: list[str] = []
    for argument in given:
        name, equals, _ = argument.partition("=")
        if name == "--":
            return [*own, *rest, argument, *given]
        if name not in VALUED and name != "--json":
            rest.append(argument)
            continue
        own.append(argument)
        if name in VALUED and not equals:
            own += [value for value in [next(given, None)] if value is not None]
    return [*own, *rest]


app = typer.Typer(cls=MethodGroup, no_args_is_help=True)
app.command()(generate)
app.command("vad")(speech.vad)
app.command("fanout")(fanout.fanout)
app.command("pipeline")(pipeline.pipeline)


@app.callback()
def options(
    context: typer.Context,
    address: Address = ADDRESS,
    timeout: Timeout = 60.0,
    json: AsJson = False,
    cache_control: CacheControl = "",
) -> None:
    """Call a running suite. Any method works too: maas call SERVICE/METHOD '{"json": …}'"""
    # From the environment alone: every user of a machine can read the flags of its processes.
    credential = os.environ.get(CREDENTIAL, "")
    context.obj = Calling(address, timeout, json, cache_control, credential, tls_of(os.environ))


@app.command()
def tokenize(context: typer.Context, text: str, model: Model = "", version: Version = "") -> None:
    """Text → token ids."""
    include = tokenization_pb2.Include(tokens=True)
    request = tokenization_service_pb2.TokenizeRequest(model=model, version=version, texts=[text], include=include)
    method = "maas.tokenization.v1.TokenizationService/Tokenize"
    calling.of(context).run(method, request, lambda answer: show_encoding(answer.reply.encodings[0]))


def show_encoding(encoding: tokenization_pb2.Encoding) -> None:
    """Ids on the first line, tokens on the second."""
    out().print(json.dumps(list(encoding.ids)), soft_wrap=True, highlight=False)
    out().print(
        json.dumps(list(encoding.tokens), ensure_ascii=False), soft_wrap=True, highlight=False, markup=False
    )


@app.command()
def detokenize(context: typer.Context, ids: list[int], model: Model = "", version: Version = "") -> None:
    """Token ids → text."""
    sequence = tensor_pb2.TokenIds(values=ids)
    request = tokenization_service_pb2.DetokenizeRequest(model=model, version=version, sequences=[sequence])
    method = "maas.tokenization.v1.TokenizationService/Detokenize"
    calling.of(context).run(method, request, lambda answer: print(answer.reply.texts[0]))


@app.command()
def classify(
    context: typer.Context,
    image: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JPEG, PNG, WebP, BMP or GIF.")],
    top_k: Annotated[int | None, typer.Option(min=1, help="Left out: 5, or all if fewer.")] = None,
    model: Model = "",
    version: Version = "",
) -> None:
    """Image → labels."""
    images = [vision_pb2.Image(encoded=image.read_bytes())]
    request = vision_service_pb2.ClassifyRequest(model=model, version=version, images=images, top_k=top_k)
    method = "maas.vision.v1.VisionService/Classify"
    calling.of(context).run(method, request, lambda answer: print_labels(answer.reply.results))


@app.command()
def embed(context: typer.Context, texts: list[str], model: Model = "", version: Version = "") -> None:
    """Text → vector."""
    request = sequence_service_pb2.EmbedRequest(
        model=model, version=version, texts=tensor_pb2.Texts(values=texts), readable=True
    )
    method = "maas.sequence.v1.SequenceService/Embed"
    calling.of(context).run(method, request, lambda answer: print_embeddings(answer.reply.embeddings))


@app.command()
def transduce(context: typer.Context, words: list[str], model: Model = "", version: Version = "") -> None:
    """Word → phonemes."""
    request = sequence_service_pb2.TransduceRequest(model=model, version=version, texts=words)
    method = "maas.sequence.v1.SequenceService/Transduce"
    calling.of(context).run(
        method, request, lambda answer: print("\n".join(result.text for result in answer.reply.results))
    )


@app.command()
def method(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="SERVICE/METHOD, the service by full or last name.")],
    request: Annotated[str, typer.Argument(help="JSON; a list of messages for a streaming method.")] = "{}",
) -> None:
    """Any method by its name, requests and replies as JSON."""
    options, descriptor = calling.of(context), find_method(name)
    try:
        content = json.loads(request)
        messages = content if isinstance(content, list) else [content]
        parsed = [ParseDict(checked(message), request_class(descriptor)()) for message in messages]
    except (ValueError, ParseError, AttributeError) as error:
        raise InvalidInput("request", f"does not fit {descriptor.input_type.full_name}: {error}") from error
    if len(parsed) != 1 and not descriptor.client_streaming:
        raise InvalidInput("request", f"{name} takes exactly one message, got {len(parsed)}")
    answer = Answer()
    with options.client() as client:
        for reply in client.stream(name, parsed, answer):
            print_reply(reply, line=answer.streamed)
    footer(answer)


def checked(message: Any) -> dict[str, Any]:
    """The message itself; ValueError unless it is a JSON object."""
    if not isinstance(message, dict):
        raise ValueError(f"a message must be a JSON object, not {json.dumps(message)[:40]}")
    return message
