"""What a session remembers from step to step, and its form as bytes. Knows no session's rules and no Redis.

Form: a byte that tells it, the header's length, the header (JSON), then recent steps and state arrays, raw,
little-endian and in the header's order. What is read is believed only where the model says the same.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.runtime.errors import PreconditionFailed
from services.runtime.runners.base import Array
from services.sequence.checkpoints.recent import FLOAT_BYTES, MARK_BYTES, MOST_BYTES, Recent
from services.sequence.models.net import State

FORM = 1
LENGTH_BYTES = 4
HEAD_BYTES = 1 + LENGTH_BYTES
MOST = 2**63
NOTHING = Recent()


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """The state after a session's last step, its recent steps, and the digest of the model whose state it is."""

    digest: str
    state: State
    recent: Recent = NOTHING


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A session as it was kept. `tensors`: name, dtype, shape of each array; `body`: what follows the header."""

    model: str
    version: str
    digest: str
    step: int
    tensors: list[Any]
    classes: int
    recent_bytes: int
    body: bytes

    def memory(self, fresh: State) -> Memory:
        """As the model reads it whose state is like `fresh`. PreconditionFailed unless all is of that form."""
        end = self.recent_bytes + sum(array.nbytes for array in fresh.values())
        if self.tensors != _forms(fresh) or end != len(self.body):
            raise unreadable()
        state, start = {}, self.recent_bytes
        for name, array in fresh.items():
            flat = np.frombuffer(self.body, _little(array), array.size, start)
            state[name] = flat.reshape(array.shape).astype(array.dtype)
            start += array.nbytes
        return Memory(self.digest, state, Recent(self.classes, self.body[: self.recent_bytes]))


def pack(model: str, version: str, step: int, memory: Memory) -> bytes:
    """As it is kept."""
    header = {
        "model": model,
        "version": version,
        "digest": memory.digest,
        "step": step,
        "tensors": _forms(memory.state),
        "classes": memory.recent.classes,
        "recent_bytes": len(memory.recent.packed),
    }
    head = json.dumps(header, separators=(",", ":")).encode()
    arrays = (array.astype(_little(array), copy=False).tobytes() for array in memory.state.values())
    length = len(head).to_bytes(LENGTH_BYTES, "little")
    return b"".join((bytes((FORM,)), length, head, memory.recent.packed, *arrays))


def unpack(data: bytes) -> Checkpoint:
    """Reads `pack`'s form. PreconditionFailed for anything else."""
    try:
        end = HEAD_BYTES + int.from_bytes(data[1:HEAD_BYTES], "little")
        if data[:1] != bytes((FORM,)) or end > len(data):
            raise ValueError
        found = Checkpoint(**_checked(json.loads(data[HEAD_BYTES:end])), body=data[end:])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise unreadable() from None
    return found


def unreadable() -> PreconditionFailed:
    """The checkpoint is there and is not what was written, or was sealed with a key that is gone."""
    return PreconditionFailed(
        "session_id: the checkpoint of this session cannot be read; open it anew", reason="CHECKPOINT_UNREADABLE"
    )


def _checked(header: Any) -> Mapping[str, Any]:
    """Raises ValueError, TypeError or KeyError for a header that `pack` never writes."""
    entry = MARK_BYTES + FLOAT_BYTES * _whole(header["classes"])
    steps, odd = divmod(_whole(header["recent_bytes"]), entry)
    texts = (header["model"], header["version"], header["digest"])
    if odd or steps > _whole(header["step"]) or header["recent_bytes"] > max(MOST_BYTES, entry):
        raise ValueError
    if not all(isinstance(text, str) for text in texts):
        raise TypeError
    found: Mapping[str, Any] = header
    return found


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < MOST:
        raise ValueError
    return value


def _forms(state: State) -> list[Any]:
    return [[name, array.dtype.name, list(array.shape)] for name, array in state.items()]


def _little(array: Array) -> Any:
    return array.dtype.newbyteorder("<")
