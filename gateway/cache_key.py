"""Names an answer: equal keys if and only if the answers must be equal. Pure: no gRPC, no Redis."""

from functools import lru_cache
from hashlib import blake2b
from typing import Any

from blake3 import blake3
from google.protobuf.message import Message

from gateway.canonical import canonical
from gateway.methods import Method

# Changes whenever keys or stored values change their meaning.
SCHEMA = b"2"
KEY_BYTES, TAG_BYTES = 24, 6
# Sessions and streams have theirs beside it.
PREFIX = "maas:v1:answer"


def deterministic(method: Method, request: Any) -> bool:
    """Whether the same request to the same model has the same answer: everything but unseeded sampling."""
    if not method.remembers:
        return False
    if method.name == "Generate":
        sampling = request.sampling
        return not sampling.temperature or sampling.HasField("seed")
    return True


def fingerprint(request: Message) -> bytes:
    """256 bits that stand for the canonical request."""
    digest: bytes = blake3(canonical(request)).digest()
    return digest


def cache_key(method: str, model: str, digest: str, tenant: str, content: bytes) -> str:
    """192 bits over everything that decides an answer; `content` is the request's fingerprint.

    blake2b and blake3 are collision resistant, so nobody can craft a request that meets another's key. The braces
    make the hash the slot of a Redis cluster.
    """
    parts = (SCHEMA, method.encode(), model.encode(), digest.encode(), tenant.encode(), content)
    # Lengths in front, so that no two splits of the same bytes are alike.
    told = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    return f"{PREFIX}:{tag(tenant)}:{tag(model)}:{{{blake2b(told, digest_size=KEY_BYTES).hexdigest()}}}"


@lru_cache(maxsize=1024)
def tag(name: str) -> str:
    """Stands for a tenant or a model in the keys of its answers, so that they can be flushed together."""
    return blake2b(name.encode(), digest_size=TAG_BYTES).hexdigest()
