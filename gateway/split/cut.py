"""A request of many items → requests of some of them each. Pure: knows messages and no replica."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from gateway.methods import Method
from gateway.versions import Serving
from maas.tokenization.v1.tokenization_pb2 import PADDING_TARGET_MAX

_INPUT = ("texts.values", "token_ids.sequences", "series.values")
# Where the items are of a method that answers each for itself.
_ITEMS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("tokenization", "Tokenize"): ("texts", "pairs"),
    ("tokenization", "CountTokens"): ("texts",),
    ("vision", "Classify"): ("images",),
    ("vision", "Embed"): ("images",),
    ("sequence", "Classify"): _INPUT,
    ("sequence", "Embed"): _INPUT,
    ("sequence", "Transduce"): ("texts",),
}


class Part(NamedTuple):
    """A request, serialized, for the items from `first` on."""

    first: int
    body: bytes


def items(method: Method, request: Any) -> tuple[str, int]:
    """The path of the items that may be answered apart, and how many there are; "" and 0 if there are none."""
    paths = _ITEMS.get((method.area, method.name), ())
    found = [(path, count) for path in paths if (count := len(_at(request, path)))]
    # Both at once is for the service to refuse.
    return found[0] if len(found) == 1 and not _together(method, request) else ("", 0)


def parts_of(count: int, most: int, replicas: int) -> int:
    """Into how many parts `count` items go: no more than there are replicas, nor than parts of `most` need."""
    return min(replicas, math.ceil(count / most))


def cut(request: Any, path: str, count: int, serving: Serving | None) -> list[Part]:
    """`count` parts as equal as can be, in order, each pinned to `serving` if that is given."""
    rest, given = type(request)(), _at(request, path)
    rest.CopyFrom(request)
    del _at(rest, path)[:]
    if serving is not None:
        rest.model, rest.version = serving.model, serving.version
    bounds = [len(given) * number // count for number in range(count + 1)]
    return [Part(first, _with(rest, path, given[first:end])) for first, end in pairwise(bounds)]


def _with(rest: Any, path: str, some: Any) -> bytes:
    part = type(rest)()
    part.CopyFrom(rest)
    _at(part, path).extend(some)
    return bytes(part.SerializeToString())


def _at(message: Any, path: str) -> Any:
    for name in path.split("."):
        message = getattr(message, name)
    return message


def _together(method: Method, request: Any) -> bool:
    """Whether one item's answer depends on the others: texts that are padded to the longest."""
    padded = method.name == "Tokenize" and request.HasField("padding")
    return padded and request.padding.to != PADDING_TARGET_MAX
