"""Metadata between handlers and the wire: bytes as base64, and nothing that HTTP does not carry. Knows no call."""

import re
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Iterable, Sequence

from services.runtime.errors import Code
from services.runtime.h2.native import Pairs
from services.runtime.h2.unpack import Unreadable

Told = Iterable[tuple[str, str | bytes]]
NAME = re.compile(r"[0-9a-z_.-]+")


def carried(pairs: Told) -> Pairs:
    """As it goes out. Raises ValueError for a name or a value that a peer would break the call for."""
    return [_field(name, value) for name, value in pairs]


def read(pairs: Pairs) -> Sequence[tuple[str, str | bytes]]:
    """As handlers see it. Raises Unreadable for binary values that are no base64."""
    if not any(name.endswith("-bin") for name, _ in pairs):
        return pairs
    return [(name, _bytes(name, value) if name.endswith("-bin") else value) for name, value in pairs]


def _field(name: str, value: str | bytes) -> tuple[str, str]:
    if not NAME.fullmatch(name):
        raise ValueError(f"metadata has a name that HTTP/2 does not carry: {name!r}")
    if isinstance(value, bytes):
        if name.endswith("-bin"):
            return name, b64encode(value).rstrip(b"=").decode()
        value = value.decode("latin-1")
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"metadata {name} is no printable ASCII: binary values need a name that ends in -bin")
    return name, value


def _bytes(name: str, value: str) -> bytes:
    try:
        return b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (Error, ValueError):
        raise Unreadable(Code.INTERNAL, f"metadata {name} is no base64") from None
