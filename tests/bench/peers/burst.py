"""A burst of prompts that arrive together, and what became of them. Standard library only."""

import resource
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

from tests.bench.lines import answer_lines, output


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids and how many new ones are wanted: exactly so many, whatever they are."""

    ids: list[int]
    new_tokens: int


@dataclass(frozen=True, slots=True)
class Burst:
    """Prompts at once; the first `shared` tokens of all are the same, by which an engine may go."""

    prompts: list[Prompt]
    shared: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """By prompt: its new tokens, and the seconds until it was answered; and those of the whole burst."""

    tokens: list[list[int]]
    latencies_s: list[float]
    elapsed_s: float


@dataclass(slots=True)
class Progress:
    """A burst on its way through an engine that tells token by token; the clock runs from its making."""

    burst: Burst
    began: float = field(default_factory=perf_counter)
    tokens: list[list[int]] = field(init=False)
    latencies_s: list[float] = field(init=False)
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = [[] for _ in self.burst.prompts]
        self.latencies_s = [0.0] * len(self.tokens)
        self.left = len(self.tokens)

    def add(self, place: int, *tokens: int) -> bool:
        """More of the answer to the prompt at `place`; whether that was all of it. Surplus tokens are dropped."""
        kept, wanted = self.tokens[place], self.burst.prompts[place].new_tokens
        if len(kept) >= wanted:
            return True
        kept.extend(tokens[: wanted - len(kept)])
        if len(kept) < wanted:
            return False
        self.latencies_s[place] = perf_counter() - self.began
        self.left -= 1
        return True

    def outcome(self) -> Outcome:
        """At the end of the burst."""
        return Outcome(self.tokens, self.latencies_s, perf_counter() - self.began)


def batches(progress: Progress, generate: Callable[[Sequence[Prompt]], list[list[int]]]) -> Outcome:
    """For an engine that takes one batch at a time and tells at its end: everything in one."""
    for place, tokens in enumerate(generate(progress.burst.prompts)):
        progress.add(place, *tokens)
    return progress.outcome()


def serve(load: Callable[[], Callable[[Burst], Outcome]]) -> None:
    """Loads an engine and has it play one burst a line; with each answer goes the process's peak memory so far."""
    out = output()
    play = load()

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        prompts = [Prompt(*one) for one in question["prompts"]]
        outcome = play(Burst(prompts, question["shared"]))
        return {**asdict(outcome), "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}

    answer_lines(answer, out)
