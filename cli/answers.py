"""Shows answers of the services to a person. Knows the messages, makes no call."""

import json

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2
from rich.console import Console
from rich.markup import escape

from cli.client import Answer, CallFailed
from cli.render import err, out, print_json, table
from maas.common.v1 import tensor_pb2

CACHE, AGE = "x-maas-cache", "x-maas-cache-age-s"
SHOWN_VALUES = 8


def print_failure(error: CallFailed) -> None:
    """The status: code, text, broken fields, when to try again."""
    console = err()
    code = code_pb2.Code.Name(error.status.code)
    console.print(f"[red]{code}[/red] {escape(error.status.message)}", soft_wrap=True)
    for detail in error.status.details:
        for line in detail_lines(detail):
            if line == error.status.message:
                continue
            console.print(f"  {escape(line)}", soft_wrap=True, highlight=False)
    if error.nobody:
        hint = "nobody answers there: `maas up` starts the suite, `maas status` says what is up"
        console.print(f"  {hint}", soft_wrap=True, highlight=False)
    if error.request_id:
        console.print(f"  [dim]request {escape(error.request_id)}[/dim]")


def detail_lines(detail: object) -> list[str]:
    """One google.rpc detail (an Any) in words; [] for those that say nothing more."""
    bad, retry, info = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo(), error_details_pb2.ErrorInfo()
    if detail.Unpack(bad):  # type: ignore[attr-defined]
        return [f"{broken.field}: {broken.description}" for broken in bad.field_violations]
    if detail.Unpack(retry):  # type: ignore[attr-defined]
        return [f"try again in {retry.retry_delay.ToTimedelta().total_seconds():g} s"]
    if detail.Unpack(info):  # type: ignore[attr-defined]
        return [f"reason {info.reason}", *(f"{key}: {value}" for key, value in info.metadata.items())]
    return []


def as_json(reply: Message) -> dict[str, object]:
    """The reply with the contract's field names."""
    told: dict[str, object] = MessageToDict(reply, preserving_proto_field_name=True)
    return told


def print_replies(answer: Answer) -> None:
    """The reply as one JSON document; of a stream each as a line."""
    for reply in answer.replies:
        print_reply(reply, line=answer.streamed)


def print_reply(reply: Message, line: bool = False) -> None:
    """One reply as a JSON document, or as a line of JSON."""
    if line:
        print(json.dumps(as_json(reply), ensure_ascii=False), flush=True)
    else:
        print_json(as_json(reply))


def footer(answer: Answer) -> None:
    """Who answered, whether the cache did, and how long it took; to stderr."""
    reply = answer.replies[-1] if answer.replies else None
    parts = [part for part in (served(reply), cache(answer), timing(reply)) if part]
    line = escape(" · ".join([*parts, f"{answer.elapsed_ms:.1f} ms here"]))
    err().print(f"[dim]{line}[/dim]", highlight=False, soft_wrap=True)


def served(reply: Message | None) -> str:
    """model/version of a reply that says so."""
    by = getattr(reply, "served_by", None)
    return f"{by.model}/{by.version}" if by and by.model else ""


def cache(answer: Answer) -> str:
    """What the gateway's cache did."""
    age = answer.metadata.get(AGE)
    outcome = answer.metadata.get(CACHE, "")
    return f"cache {outcome}" + (f", {age} s old" if age else "") if outcome else ""


def timing(reply: Message | None) -> str:
    """The server's own measure."""
    took = getattr(reply, "timing", None)
    if took is None or not took.total_ms:
        return ""
    batch = f" in a batch of {took.batch_size}" if took.batch_size > 1 else ""
    return f"queue {took.queue_ms:.1f} ms, compute {took.compute_ms:.1f} ms{batch}"


def print_labels(results: object) -> None:
    """Classifications: index, name, score."""
    for result in results:  # type: ignore[attr-defined]
        rows = [[str(label.index), label.name, f"{label.score:.4f}"] for label in result.labels]
        out().print(table(["class", "name", "score"], rows, right=["class", "score"]))


def print_embeddings(tensor: tensor_pb2.Tensor) -> None:
    """Shape and the first values of each row."""
    rows, width = tensor.shape
    console = Console()
    for row in range(rows):
        values = tensor.float_values[row * width : row * width + min(width, SHOWN_VALUES)]
        console.print(
            f"{', '.join(f'{value:.4f}' for value in values)} … ({width} values)", highlight=False, soft_wrap=True
        )
