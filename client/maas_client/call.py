"""A call as a value: what is asked, and how its answer is read. Sends nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypedDict, TypeVar

from google.protobuf.message import Message

R = TypeVar("R", covariant=True)
WHO, TOOK = ("model", "version", "digest"), ("queue_ms", "compute_ms", "total_ms", "batch_size")
CACHE, CACHE_AGE = "x-maas-cache", "x-maas-cache-age-s"


class How(TypedDict, total=False):
    """What every call can be given besides its own arguments.

    `timeout_s`: seconds, instead of the client's. `cache_control`: no-cache, no-store, max-age=N or
    only-if-cached. `urgency`: whom a loaded gateway serves first. `request_id`: made anew unless given.
    """

    timeout_s: float
    cache_control: str
    urgency: Literal["critical", "default", "batch"]
    request_id: str


class Which(How, total=False):
    """Which model answers; unset = the service's default. `version` is a number or a label."""

    model: str
    version: str


@dataclass(frozen=True, slots=True)
class CallInfo:
    """Who answered, how long it took there, and what the cache had to do with it.

    `cache` is hit-l1, hit-l2, miss, coalesced, bypass, or empty where no gateway was asked.
    """

    model: str = ""
    version: str = ""
    digest: str = ""
    queue_ms: float = 0.0
    compute_ms: float = 0.0
    total_ms: float = 0.0
    batch_size: int = 0
    cache: str = ""
    cache_age_s: float = 0.0
    request_id: str = ""


Read = Callable[[Any, CallInfo], R]


@dataclass(frozen=True, slots=True)
class Ask(Generic[R]):
    """`method` is `package.Service/Method`; `read` makes the result of a `reply` message."""

    method: str
    request: Message
    reply: type[Message]
    read: Read[R]
    how: How = field(default_factory=How)


def which(options: Which) -> dict[str, Any]:
    """The request fields that name a model."""
    return {"model": options.get("model", ""), "version": options.get("version", "")}


def how(options: Mapping[str, Any]) -> How:
    """Of all options those that are of the call and not of its request."""
    known: Any = {name: value for name, value in options.items() if name in How.__annotations__}
    found: How = known
    return found


def info_of(reply: Any, told: Mapping[str, Any], request_id: str) -> CallInfo:
    """From what a reply says of itself and the metadata in front of it."""
    found: dict[str, Any] = {"cache": str(told.get(CACHE, "")), "cache_age_s": float(told.get(CACHE_AGE, 0))}
    for name, fields in (("served_by", WHO), ("timing", TOOK)):
        message = getattr(reply, name, None)
        found |= {field: getattr(message, field) for field in fields if message is not None}
    return CallInfo(**found, request_id=request_id)
