"""What the engine tells about a sequence, step by step. Plain values: no torch, no protos."""

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.generation.engine.request import Sequence


class FinishReason(Enum):
    """Why a sequence ended."""

    STOP = "stop"
    LENGTH = "length"
    EOS = "eos"


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural log probability of a token under the model's own distribution; rank 1 is the likeliest."""

    token_id: int
    logprob: float
    rank: int


@dataclass(frozen=True, slots=True)
class PositionLogprobs:
    """The token at one position and the likeliest alternatives there, best first."""

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class StopMatch:
    """Which stop ended a sequence: exactly one is set."""

    text: str | None = None
    token_id: int | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """News of one sequence from one step.

    `text` may lag behind `token_ids`: text that could begin a stop string or half a character is kept back.
    `logprob` is the sum over `token_ids`. `finish` or `error` is set on the last delta, never both.
    """

    sequence: "Sequence"
    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprob: float = 0.0
    logprobs: tuple[PositionLogprobs, ...] = ()
    finish: FinishReason | None = None
    error: Exception | None = None
    batch_size: int = 0

    @property
    def last(self) -> bool:
        return self.finish is not None or self.error is not None
