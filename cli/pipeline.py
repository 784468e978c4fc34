"""`maas call pipeline`: a stored pipeline by its name; without one, which there are."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.json_format import ParseDict, ParseError
from rich.markup import escape

from cli import calling, fanout
from cli.client import Answer
from cli.render import out, table
from maas.gateway.v1 import gateway_pb2, gateway_service_pb2
from maas.vision.v1 import vision_pb2
from services.runtime.errors import InvalidInput

SERVICE = "maas.gateway.v1.GatewayService"

Name = Annotated[str, typer.Argument(help="Pipeline; left out: lists them.", show_default=False)]
Image = Annotated[list[str] | None, typer.Option(help="NAME=FILE: a picture.", show_default=False)]
Text = Annotated[list[str] | None, typer.Option(help="NAME=TEXT.", show_default=False)]
Number = Annotated[list[str] | None, typer.Option(help="NAME=WHOLE NUMBER.", show_default=False)]
Other = Annotated[list[str] | None, typer.Option(help="NAME=JSON of an Input.", show_default=False)]


def pipeline(
    context: typer.Context,
    name: Name = "",
    image: Image = None,
    text: Text = None,
    integer: Number = None,
    input: Other = None,
) -> None:
    """Run a pipeline that is stored at the gateway, with its inputs."""
    if not name:
        listing = gateway_service_pb2.ListPipelinesRequest()
        calling.of(context).run(f"{SERVICE}/ListPipelines", listing, show_all)
        return
    inputs = {key: picture(file) for key, file in split("image", image)}
    inputs |= {key: gateway_pb2.Input(text=value) for key, value in split("text", text)}
    inputs |= {key: parsed({"integer": value}) for key, value in split("integer", integer)}
    inputs |= {key: parsed(value) for key, value in split("input", input)}
    request = gateway_service_pb2.RunPipelineRequest(name=name, inputs=inputs)
    calling.of(context).run(f"{SERVICE}/RunPipeline", request, fanout.show)


def split(option: str, given: Iterable[str] | None) -> list[tuple[str, str]]:
    """NAME=VALUE pairs."""
    for pair in given or ():
        if "=" not in pair:
            raise InvalidInput(f"--{option}", f"{pair!r} is not NAME=VALUE")
    return [(key, value) for key, _, value in (pair.partition("=") for pair in given or ())]


def picture(file: str) -> gateway_pb2.Input:
    """A picture's bytes as an input."""
    return gateway_pb2.Input(image=vision_pb2.Image(encoded=Path(file).read_bytes()))


def parsed(value: str | dict[str, str]) -> gateway_pb2.Input:
    """An input from its JSON."""
    try:
        return ParseDict(json.loads(value) if isinstance(value, str) else value, gateway_pb2.Input())
    except (ValueError, ParseError, AttributeError) as error:
        raise InvalidInput("inputs", f"{value} is no Input: {error}") from error


def show_all(answer: Answer) -> None:
    """One line a pipeline: what it is called with, and what for."""
    rows = [list(map(escape, (one.name, inputs_of(one), one.description))) for one in answer.reply.pipelines]
    out().print(table(["pipeline", "inputs", "what it does"], rows))


def inputs_of(one: gateway_pb2.Pipeline) -> str:
    """Each input with its type; optional ones in brackets."""
    told = ((f"{name}: {given.type}", given.HasField("default")) for name, given in sorted(one.inputs.items()))
    return ", ".join(f"[{text}]" if optional else text for text, optional in told)
