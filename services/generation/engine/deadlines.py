"""Who is out of time, and who will be before the first answer is possible. Knows no blocks and no texts.

A waiting sequence is refused when, alone on the machine at half the time that was ever needed, its prompt and its
`min_tokens` would still come too late. What is ahead of it does not count: it may leave. What runs is stopped only
at its deadline: its next token may be its last.
"""

from services.generation.engine.drafts import MOST
from services.generation.engine.estimate import Estimate
from services.generation.engine.request import Sequence
from services.generation.engine.scheduler import Scheduler
from services.runtime.errors import DeadlinePassed

MARGIN = 2.0


class Deadlines:
    """Watches the sequences of one scheduler."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.estimate = Estimate(scheduler.limits.max_batch_tokens)

    def missed(self, now: float) -> list[tuple[Sequence, DeadlinePassed]]:
        """Those that must end now, and why. `now` in seconds, as the deadlines."""
        timed = [(one, one.request.deadline) for one in self._scheduler.sequences()]
        verdicts = [(one, self._verdict(one, end - now)) for one, end in timed if end is not None]
        return [(one, error) for one, error in verdicts if error is not None]

    def _verdict(self, sequence: Sequence, left_s: float) -> DeadlinePassed | None:
        if left_s <= 0:
            return DeadlinePassed("the deadline passed; the generation was stopped")
        if sequence.blocks or self._least_s(sequence, len(sequence.tokens)) <= left_s:
            return None
        least_s = self._least_s(sequence, self._scheduler.sharing.uncomputed(sequence))
        return _too_soon(left_s, least_s) if least_s > left_s else None

    def _least_s(self, sequence: Sequence, rows: int) -> float:
        """A pass brings one token, and as many as are drafted."""
        still = sequence.request.stopping.min_tokens - sequence.output_length - 1
        return self.estimate.least_s(rows, max(still, 0) // (MOST + 1)) / MARGIN


def _too_soon(left_s: float, least_s: float) -> DeadlinePassed:
    return DeadlinePassed(
        f"the deadline cannot be met: {left_s:.3f} s are left, and even alone the prompt and min_tokens take "
        f"longer than {least_s:.3f} s",
        reason="DEADLINE_TOO_SOON",
    )
