"""What a precision costs: how far a runner's distributions of the next token are from another's. Knows no store.

Perplexity is e to the mean of −ln p over a text's tokens. On a few thousand tokens its change is mostly chance.
The mean divergence of the distributions (Kullback & Leibler 1951) is not, and is the same change on text that the
reference itself would write.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from services.generation.engine.kv_cache import KVCache
from services.generation.engine.request import Request
from services.generation.engine.request import Sequence as EngineSequence
from services.generation.engine.runner import ModelRunner, Runner
from services.generation.engine.step import Chunk, Step
from services.generation.models.causal_lm import CausalLM

SAMPLE = Path(__file__).with_name("sample.txt")  # chapters of the King James Bible that no recipe learns from
CONTEXT, MOST_TOKENS = 512, 2048  # tokens seen at once, and in all
LOGITS_ROWS = 64  # rows whose logits exist at a time
BLOCK_TOKENS = 16

Tell = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a runner beside a reference. divergence: mean KL(reference ‖ runner) in nats a token; the largest
    difference of a token's log probability."""

    perplexity: float
    divergence: float
    max_logprob_error: float


def reference(net: CausalLM, context: int = CONTEXT) -> Runner:
    """The net in torch, with room for one pass of `costs`."""
    return ModelRunner(net, KVCache(net.config, blocks_of(context), BLOCK_TOKENS))


def blocks_of(context: int) -> int:
    """KV blocks that a pass of `costs` fills, and the one that stays empty."""
    return 1 + _rows_at_once(context) * -(-context // BLOCK_TOKENS)


@torch.inference_mode()
def costs(
    runners: Sequence[Runner], ids: Sequence[int], context: int, tell: Tell = lambda done, of: None
) -> list[Cost]:
    """Of each runner beside the first, by every id of a text but its first.

    An id sees those before it in its row of `context`; rows do not overlap.
    """
    rows = [ids[at : at + context + 1] for at in range(0, len(ids) - 1, context)]
    found: list[Tensor] = []
    done = 0
    for at in range(0, len(rows), _rows_at_once(context)):
        batch = rows[at : at + _rows_at_once(context)]
        found += _compared(runners, batch)
        done += sum(len(row) - 1 for row in batch)
        tell(done, len(ids) - 1)
    every = torch.cat(found, 1)
    return [_cost(told, every[0]) for told in every]


def _cost(told: Tensor, first: Tensor) -> Cost:
    """told, first: [tokens, 2] ln p and divergence, float64."""
    loss, divergence = -float(told[:, 0].mean()), float(told[:, 1].mean())
    return Cost(math.exp(loss), divergence if not divergence < 0 else 0.0, float((told - first)[:, 0].abs().max()))


def _compared(runners: Sequence[Runner], rows: Sequence[Sequence[int]]) -> Iterator[Tensor]:
    """[runners, tokens, 2] of some tokens at a time: ln p, and the divergence from the first runner's."""
    passes = [_Pass(runner, rows) for runner in runners]
    truth = torch.tensor([token for row in rows for token in row[1:]])
    for at in range(0, len(truth), LOGITS_ROWS):
        logs = [one.log_probabilities(at, at + LOGITS_ROWS) for one in passes]
        chosen = [log.gather(1, truth[at : at + LOGITS_ROWS, None]).squeeze(1) for log in logs]
        apart = [(logs[0].exp() * (logs[0] - log)).sum(1) for log in logs]
        yield torch.stack([torch.stack(pair, 1) for pair in zip(chosen, apart, strict=True)])


class _Pass:
    """One pass of a runner over rows of tokens, whose last are targets only."""

    def __init__(self, runner: Runner, rows: Sequence[Sequence[int]]) -> None:
        self._runner, self._computed = runner, runner.run(Step(tuple(_chunks(rows))))
        order = zip(self._computed.chunks, self._computed.ends, strict=True)
        ends = {chunk.sequence.arrival: (end - chunk.count, end) for chunk, end in order}
        self._places = [place for number in range(len(rows)) for place in range(*ends[number])]

    def log_probabilities(self, first: int, stop: int) -> Tensor:
        """[tokens, vocabulary] float64 of some of the tokens, row by row."""
        found = self._runner.logits(self._computed, self._places[first:stop])
        return torch.stack([row.log_probabilities().double() for row in found])


def _chunks(rows: Sequence[Sequence[int]]) -> Iterator[Chunk]:
    first = 1  # block 0 belongs to nobody
    for number, row in enumerate(rows):
        sequence = EngineSequence(Request(tuple(row)), 0, _Mute())
        sequence.arrival = number
        width = -(-(len(row) - 1) // BLOCK_TOKENS)
        sequence.blocks = list(range(first, first + width))
        first += width
        yield Chunk(sequence, 0, len(row) - 1)


def _rows_at_once(context: int) -> int:
    return max(1, CONTEXT // context)


class _Mute:
    """Nobody reads the text."""

    def push(self, token: int) -> tuple[str, str | None]:
        return "", None

    def flush(self) -> tuple[str, str | None]:
        return "", None

    def fork(self) -> "_Mute":
        return self
