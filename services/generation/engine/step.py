"""One pass of the engine: which tokens of which sequences are computed together. No torch."""

from dataclasses import dataclass

from services.generation.engine.request import Sequence


@dataclass(frozen=True, slots=True)
class Chunk:
    """`count` tokens of `sequence` from position `start` on; their KV blocks are already allocated.

    The last of them may be `drafts`, guesses of what follows `sequence.tokens`: each of them, and the token before
    them, gives logits.
    """

    sequence: Sequence
    start: int
    count: int
    drafts: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        return self.start + self.count

    @property
    def certain(self) -> int:
        """One past the last position that holds no draft."""
        return self.end - len(self.drafts)

    @property
    def tokens(self) -> list[int]:
        return [*self.sequence.tokens[self.start : self.certain], *self.drafts]

    @property
    def completes(self) -> bool:
        """Whether a token can be chosen after this chunk."""
        return self.certain == len(self.sequence.tokens)

    @property
    def foretold(self) -> bool:
        """Whether the sequence's newest token is the draft at its place, so that it is computed already."""
        place = len(self.sequence.tokens) - 1
        return place < self.end and self.drafts[place - self.end] == self.sequence.tokens[place]


@dataclass(frozen=True, slots=True)
class Step:
    """The chunks of one forward pass, each of another sequence."""

    chunks: tuple[Chunk, ...]

    @property
    def tokens(self) -> int:
        return sum(chunk.count for chunk in self.chunks)
