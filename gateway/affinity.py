"""Which replica is likely to hold what a call goes on from: a session's state, a prompt's prefix. Pure.

Rendezvous hashing (Thaler and Ravishankar 1998) gives a key the same replica at every gateway, and moves only the
keys of a replica that is gone; bounded loads (Mirrokni, Thorup and Zadimoghaddam 2016) spread a popular key.
"""

import math
from array import array
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol, TypeVar

# What a replica may carry: so much more than its fair part of what is in flight, and so few that nobody waits.
SPARE, FEW = 1.25, 4
# Two prompts that differ only later than here go to the same replica.
PREFIX_CHARACTERS, PREFIX_TOKENS = 256, 64


class Key(NamedTuple):
    """`kept`: at its replica for as long as that one serves, however busy it is."""

    name: bytes
    kept: bool


class Candidate(Protocol):
    """What the choice looks at."""

    @property
    def address(self) -> str: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def share(self) -> float: ...


C = TypeVar("C", bound=Candidate)


def home(key: Key, candidates: Sequence[C]) -> C:
    """The first replica in the key's own order that is not over its bound; there is always one.

    The bounds add up to more than all that is in flight, so not every one can be reached.
    """
    ranked = sorted(candidates, key=lambda one: _weight(key.name, one.address), reverse=True)
    if key.kept:
        return ranked[0]
    fair = (sum(one.in_flight for one in ranked) + 1) / sum(one.share for one in ranked)
    most = max(SPARE * fair, FEW)
    return next(one for one in ranked if one.in_flight < math.ceil(most * one.share))


def session_key(tenant: str, session_id: str) -> Key:
    """Of a session, whose state moves at a cost, and without Redis not at all."""
    return Key(_name(b"session", tenant.encode(), session_id.encode()), kept=True)


def prompt_key(tenant: str, request: Any) -> Key | None:
    """Of a GenerateRequest or GenerateStreamRequest: calls with the same beginning share KV blocks.

    None where the beginning does not decide: a resumed stream, a prompt that keeps only its end.
    """
    beginning = _beginning(request)
    if beginning is None or request.HasField("truncate_prompt_tokens"):
        return None
    words = (tenant, request.cache_salt, request.model, request.version, request.adapter)
    return Key(_name(b"prompt", *(word.encode() for word in words), beginning), kept=False)


def _beginning(request: Any) -> bytes | None:
    """Of a chat its first message: the system's, if it has one, which many conversations share."""
    kind = request.WhichOneof("prompt")
    if kind == "text":
        return bytes(request.text[:PREFIX_CHARACTERS].encode())
    if kind == "token_ids":
        given = request.token_ids
        return bytes(given.packed[: 4 * PREFIX_TOKENS]) or array("I", given.values[:PREFIX_TOKENS]).tobytes()
    if kind == "chat" and request.chat.messages:
        first = request.chat.messages[0]
        return bytes(f"{first.role}\n{first.content[:PREFIX_CHARACTERS]}".encode())
    return None


def _name(*parts: bytes) -> bytes:
    """Lengths in front, so that no two splits of the same bytes are alike."""
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)


def _weight(name: bytes, address: str) -> bytes:
    return blake2b(name, digest_size=8, key=address.encode()[-64:]).digest()
