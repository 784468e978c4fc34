"""`maas call fanout`: several calls to several services as one."""

from pathlib import Path
from typing import Annotated

import typer
from google.rpc import code_pb2
from rich.markup import escape

from cli import calling
from cli.client import Answer
from cli.generate import conversation
from cli.render import out, table
from maas.gateway.v1 import gateway_pb2, gateway_service_pb2
from maas.generation.v1 import generation_service_pb2
from maas.sequence.v1 import sequence_service_pb2
from maas.tokenization.v1 import tokenization_service_pb2
from maas.vision.v1 import vision_pb2, vision_service_pb2
from services.runtime.errors import InvalidInput

METHOD = "maas.gateway.v1.GatewayService/FanOut"

Text = Annotated[str, typer.Option(help="Text to tokenize.", show_default=False)]
Image = Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Image to classify.")]
Word = Annotated[str, typer.Option(help="Word to transduce.", show_default=False)]
Chat = Annotated[str, typer.Option(help="Message to answer.", show_default=False)]


def fanout(context: typer.Context, text: Text = "", image: Image = None, word: Word = "", chat: Chat = "") -> None:
    """One call for each option that is given, all in parallel."""
    calls = []
    if text:
        tokenize = tokenization_service_pb2.TokenizeRequest(texts=[text])
        calls.append(gateway_pb2.Call(id="tokenize", tokenize=tokenize))
    if image:
        images = [vision_pb2.Image(encoded=image.read_bytes())]
        classify = vision_service_pb2.ClassifyRequest(images=images)
        calls.append(gateway_pb2.Call(id="classify", classify_image=classify))
    if word:
        transduce = sequence_service_pb2.TransduceRequest(texts=[word])
        calls.append(gateway_pb2.Call(id="transduce", transduce=transduce))
    if chat:
        generate = generation_service_pb2.GenerateRequest(chat=conversation("", chat))
        calls.append(gateway_pb2.Call(id="generate", generate=generate))
    if not calls:
        raise InvalidInput("calls", "give at least one of --text, --image, --word, --chat")
    calling.of(context).run(METHOD, gateway_service_pb2.FanOutRequest(calls=calls), show)


def show(answer: Answer) -> None:
    """One line a call: what came, whether from the cache, how long it took."""
    rows = [[escape(r.id), escape(gist(r)), r.cache, f"{r.elapsed_ms:.1f}"] for r in answer.reply.results]
    out().print(table(["call", "result", "cache", "ms"], rows, right=["ms"]))


def gist(result: gateway_pb2.CallResult) -> str:
    """The heart of a result in a few words."""
    kind = result.WhichOneof("reply")
    if kind == "tokenize":
        return f"{len(result.tokenize.encodings[0].ids)} tokens"
    if kind == "classify_image":
        best = result.classify_image.results[0].labels[0]
        return f"{best.index} {best.name} {best.score:.3f}"
    if kind == "transduce":
        return result.transduce.results[0].text
    if kind == "generate":
        return result.generate.completions[0].text
    return f"{code_pb2.Code.Name(result.status.code)}: {result.status.message}"
