"""The stream id of a remembered answer: from it and the caller's tenant its key is found again. Pure."""

import re

from gateway.cache_key import PREFIX, tag

# No letter that services put in their ids.
_ID = re.compile(r"cached\.([0-9a-f]+)\.([0-9a-f]+)")


def replay_id(key: str) -> str:
    """Names the answer under `key`, to its tenant alone."""
    model, name = key.removeprefix(PREFIX + ":").split(":")[1:]
    return f"cached.{model}.{name.strip('{}')}"


def key_of(stream_id: str, tenant: str) -> str | None:
    """The key of the answer that `tenant` knows by such an id; None for an id that a service gave."""
    found = _ID.fullmatch(stream_id)
    return f"{PREFIX}:{tag(tenant)}:{found[1]}:{{{found[2]}}}" if found else None
