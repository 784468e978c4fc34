"""What a net says of the next token. Knows no sampling."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Row:
    """One row of logits [vocab] float32, valid until the next call for logits; `best` is the place of the largest
    and `log_sum` ln Σ e^logit."""

    logits: Tensor
    best: int
    log_sum: float

    def log_probabilities(self) -> Tensor:
        """[vocab]: the natural log of the model's own distribution."""
        return self.logits - self.log_sum

    def log_probability(self, token: int) -> float:
        """Of one token."""
        return float(self.logits[token] - self.log_sum)
