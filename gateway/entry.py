"""A remembered answer and its stored form. Knows no tier."""

import struct
from dataclasses import dataclass
from hashlib import blake2b

import zstandard

# version, compressed?, stored at, expires at (unix seconds), time it took (s), checksum of key and reply
_HEADER = struct.Struct("<BBdddQ")
_VERSION = 2
COMPRESS_FROM = 4096
LEVEL = 1
# Rough cost of a key, an entry and its place in a dictionary.
OVERHEAD_BYTES = 256


@dataclass(frozen=True, slots=True)
class Entry:
    """The first answer's bytes, with the times (unix seconds) of its birth and end, and how long it took (s)."""

    reply: bytes
    stored_at: float
    expires_at: float
    took_s: float = 0.0

    @property
    def size(self) -> int:
        """Bytes it occupies in memory."""
        return len(self.reply) + OVERHEAD_BYTES


def pack(key: str, entry: Entry) -> bytes:
    """The entry as Redis keeps it; large ones compressed where that helps."""
    body, squeezed = entry.reply, 0
    if len(body) >= COMPRESS_FROM:
        smaller = zstandard.ZstdCompressor(level=LEVEL).compress(body)
        if len(smaller) < len(body):
            body, squeezed = smaller, 1
    head = _HEADER.pack(
        _VERSION, squeezed, entry.stored_at, entry.expires_at, entry.took_s, _seal(key, entry.reply)
    )
    return head + body


def unpack(key: str, data: bytes, limit_bytes: int) -> Entry | None:
    """Reads `pack`'s form; None if it is damaged, foreign, larger than `limit_bytes` or another key's."""
    if len(data) < _HEADER.size or data[0] != _VERSION:
        return None
    _, squeezed, stored_at, expires_at, took_s, seal = _HEADER.unpack_from(data)
    body = data[_HEADER.size :]
    reply = _inflate(body, limit_bytes) if squeezed else body
    if reply is None or len(reply) > limit_bytes or _seal(key, reply) != seal:
        return None
    return Entry(reply, stored_at, expires_at, took_s)


def _inflate(body: bytes, limit_bytes: int) -> bytes | None:
    try:
        if zstandard.frame_content_size(body) > limit_bytes:
            return None
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=limit_bytes)
    except zstandard.ZstdError:
        return None


def _seal(key: str, reply: bytes) -> int:
    """Ties a reply to its key: an answer that a connection mixed up is seen and dropped."""
    return int.from_bytes(blake2b(reply, digest_size=8, key=key.encode()[-64:]).digest(), "little")
