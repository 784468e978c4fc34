"""What a net says of the next token. Knows no sampling."""

from typing import NamedTuple

from torch import Tensor


class Row(NamedTuple):
    """One row of logits, valid until the next call for logits: `table` [rows, vocab] float32 has it at `place`,
    on the device that computed it.

    best: the place of the largest logit, the first of several; peak: that logit; log_sum: ln Σ e^logit.
    """

    table: Tensor
    place: int
    best: int
    peak: float
    log_sum: float

    @property
    def logits(self) -> Tensor:
        """[vocab] float32, on the CPU."""
        return self.table[self.place].cpu()

    def log_probabilities(self) -> Tensor:
        """[vocab]: the natural log of the model's own distribution."""
        return self.logits - self.log_sum

    def log_probability(self, token: int) -> float:
        """Of one token."""
        logit = self.peak if token == self.best else float(self.table[self.place, token])
        return logit - self.log_sum
