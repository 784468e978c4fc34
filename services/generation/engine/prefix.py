"""Names for KV blocks by content: equal hash, equal tokens from the start of the context. Knows no pool."""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import pairwise

DIGEST_BYTES = 16


def root(salt: bytes) -> bytes:
    """The hash before the first block: contexts of different salts never share."""
    return blake2b(salt, digest_size=DIGEST_BYTES, person=b"maas-kv-root").digest()


def chain(previous: bytes, tokens: Iterable[int]) -> bytes:
    """The hash of a full block that follows `previous`; each token counts as 4 little-endian bytes."""
    digest = blake2b(previous, digest_size=DIGEST_BYTES)
    digest.update(b"".join(token.to_bytes(4, "little") for token in tokens))
    return digest.digest()


def extend(hashes: list[bytes], salt: bytes, tokens: Sequence[int], block_size: int, blocks: int) -> None:
    """Grow `hashes` in place until it names the first `blocks` full blocks of `tokens`."""
    edges = range(len(hashes) * block_size, blocks * block_size + 1, block_size)
    for start, end in pairwise(edges):
        hashes.append(chain(hashes[-1] if hashes else root(salt), tokens[start:end]))
