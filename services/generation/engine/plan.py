"""A step as it is put together: how many tokens of which sequence. Knows no order and no blocks."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from services.generation.engine.request import Sequence
from services.generation.engine.step import Chunk


@dataclass(slots=True)
class Plan:
    """Decodes and drafts are free, prompt tokens cost `budget`. `rows`: of all decodes, with the drafts so far;
    the pass costs as much as `rows + fixed_rows`."""

    budget: int
    rows: int
    fixed_rows: float
    sizes: dict[Sequence, int] = field(default_factory=dict)
    drafts: dict[Sequence, tuple[int, ...]] = field(default_factory=dict)

    def grant(self, sequence: Sequence, most: int) -> bool:
        """Up to `most` tokens more; whether some are left, for which there may be no budget."""
        had = self.sizes.get(sequence, 0)
        more = min(most, sequence.pending - had, self.budget)
        self.budget -= more if sequence.pending > 1 else 0
        self.sizes[sequence] = had + more
        return had + more < sequence.pending

    @property
    def share(self) -> float:
        """Of its costs, that of its rows."""
        return self.rows / (self.rows + self.fixed_rows)

    def guess(self, sequence: Sequence, drafts: tuple[int, ...]) -> None:
        """Compute `drafts` after the sequence's newest token."""
        self.drafts[sequence] = drafts
        self.rows += len(drafts)

    def end(self, sequence: Sequence) -> int:
        """The place after the last of its tokens that will have been computed."""
        return sequence.computed + self.sizes.get(sequence, 0)

    def chunks(self) -> Iterator[Chunk]:
        for sequence, size in self.sizes.items():
            drafts = self.drafts.get(sequence, ())
            yield Chunk(sequence, sequence.computed, size + len(drafts), drafts)
