"""The form of a recorded stream: entries of framed parts, the first led by the header. Knows no Redis.

The header is the request with everything settled that could turn out otherwise a second time: model and version,
prompt tokens, seed, most tokens. From it the same model gives the same tokens again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from maas.generation.v1 import generation_service_pb2 as service_pb
from services.generation.job import Job
from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest

_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Header:
    """What is generated, and by which digest."""

    request: service_pb.GenerateStreamRequest
    digest: str

    @classmethod
    def of(cls, request: service_pb.GenerateStreamRequest, job: Job, manifest: Manifest, digest: str) -> "Header":
        """That of the job made of `request`; `digest` is of the model and the request's adapter."""
        settled = service_pb.GenerateStreamRequest()
        settled.CopyFrom(request)
        settled.model, settled.version = manifest.name, str(manifest.version)
        settled.token_ids.Clear()
        settled.token_ids.packed = np.array(job.request.prompt, "<u4").tobytes()
        settled.ClearField("truncate_prompt_tokens")
        settled.sampling.seed = job.request.seed
        settled.stopping.max_tokens = job.request.stopping.max_tokens
        return cls(settled, digest)

    def pack(self) -> bytes:
        """As it is kept."""
        return framed((self.digest.encode(), self.request.SerializeToString()))

    @classmethod
    def unpack(cls, data: bytes) -> "Header":
        """Reads `pack`'s form. Raises ValueError."""
        digest, request = parts(data)
        return cls(service_pb.GenerateStreamRequest.FromString(request), digest.decode())


@dataclass(frozen=True, slots=True)
class Record:
    """A stream as far as it was recorded: `entries` are the parts it was kept in, `size` their bytes."""

    header: Header
    messages: tuple[service_pb.GenerateStreamResponse, ...]
    entries: int
    size: int

    @classmethod
    def of(cls, entries: Sequence[bytes]) -> "Record":
        """Raises PreconditionFailed unless the entries are what was written."""
        try:
            header, *messages = [part for entry in entries for part in parts(entry)]
            told = tuple(map(service_pb.GenerateStreamResponse.FromString, messages))
            if [one.sequence_number for one in told] != list(range(1, len(told) + 1)):
                raise ValueError("a message is missing")
            return cls(Header.unpack(header), told, len(entries), sum(map(len, entries)))
        except Exception as error:  # protobuf's own errors are of no one kind
            raise unreadable() from error


def framed(found: Iterable[bytes]) -> bytes:
    """The parts in one, each behind its length."""
    return b"".join(len(part).to_bytes(_LENGTH_BYTES, "little") + part for part in found)


def parts(data: bytes) -> list[bytes]:
    """Reads `framed`'s form. Raises ValueError for bytes that are not of it."""
    found: list[bytes] = []
    start = 0
    while start < len(data):
        begin = start + _LENGTH_BYTES
        start = begin + int.from_bytes(data[start:begin], "little")
        if start > len(data) or begin > len(data):
            raise ValueError("cut short")
        found.append(data[begin:start])
    return found


def unreadable() -> PreconditionFailed:
    """The record is there and is not what was written, or was sealed with a key that is gone."""
    return PreconditionFailed(
        "resume.stream_id: the record of this stream cannot be read; ask again from the start",
        reason="RECORD_UNREADABLE",
    )
