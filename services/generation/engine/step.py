"""One pass of the engine: which tokens of which sequences are computed together. No torch."""

from dataclasses import dataclass

from services.generation.engine.request import Sequence


@dataclass(frozen=True, slots=True)
class Chunk:
    """`count` tokens of `sequence` from position `start` on; their KV blocks are already allocated."""

    sequence: Sequence
    start: int
    count: int

    @property
    def end(self) -> int:
        return self.start + self.count

    @property
    def tokens(self) -> list[int]:
        return self.sequence.tokens[self.start : self.end]

    @property
    def completes(self) -> bool:
        """Whether a token can be chosen after this chunk."""
        return self.end == len(self.sequence.tokens)


@dataclass(frozen=True, slots=True)
class Step:
    """The chunks of one forward pass, each of another sequence."""

    chunks: tuple[Chunk, ...]

    @property
    def tokens(self) -> int:
        return sum(chunk.count for chunk in self.chunks)
