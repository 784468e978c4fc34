"""What a request carries of an adapter: its name by content, and what the runner made of it. No torch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """`digest`: equal digests, equal changes. `weights`: the form of the runner that made it, opaque to others."""

    digest: str
    weights: object


def salted(salt: bytes, adapter: Adapter | None) -> bytes:
    """The salt of KV blocks, which depend on the adapter: those of different ones are never shared."""
    return salt if adapter is None else adapter.digest.encode() + b"\0" + salt
