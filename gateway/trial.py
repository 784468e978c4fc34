"""Which calls try a canary: a fixed share, and the same request always the same way. Pure."""


def tries(content: bytes, percent: float) -> bool:
    """`content` is the request's fingerprint, at least 64 uniform bits; `percent` of 0 to 100 of them try."""
    return int.from_bytes(content[:8]) < percent / 100 * 2**64
