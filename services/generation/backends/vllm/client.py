"""What the backend asks of vLLM, and what it hears. Plain values: knows no vLLM."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.runtime.errors import Unavailable

START_S = 10.0  # a small model's; a caller who comes back too early is told again


class EngineDied(Unavailable):
    """The engine's processes are gone, or not back yet."""

    reason = "ENGINE_DIED"

    def __init__(self) -> None:
        super().__init__("the engine died and is being started again; retry", retry_after_s=START_S)


@dataclass(frozen=True, slots=True)
class Order:
    """One sequence. `sampling`: keywords of vLLM's SamplingParams. Of equal `salt` may share blocks; higher
    `priority` goes first."""

    prompt: tuple[int, ...]
    sampling: Mapping[str, Any]
    salt: str
    priority: int


class Found(Protocol):
    """A token's natural log probability; rank 1 is the likeliest."""

    @property
    def logprob(self) -> float: ...

    @property
    def rank(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Output:
    """News of one sequence: the new tokens, and at each the chosen one's and the likeliest's probabilities.

    prompt_logprobs: of all the prompt's positions, the first None, in one output at most. scheduled: when it was
    first computed, time.monotonic() seconds. batch_size: sequences computed together.
    """

    token_ids: Sequence[int]
    logprobs: Sequence[Mapping[int, Found]]
    prompt_logprobs: Sequence[Mapping[int, Found] | None]
    cached_tokens: int
    scheduled: float
    batch_size: int


class Client(Protocol):
    """A running vLLM."""

    def generate(self, order: Order) -> AsyncGenerator[Output]:
        """Until the sequence ends; closed early, it is aborted. Raises EngineDied, or another error of the
        suite's own."""

    def shutdown(self) -> None:
        """Ends its processes; blocks."""
