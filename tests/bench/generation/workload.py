"""What is asked of every engine: the same token ids in the same order, new ones each round. Knows no engine."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.peers.burst import Burst, Outcome, Prompt

FILE = Path(__file__).with_name("workload.json")


@dataclass(frozen=True, slots=True)
class Point:
    """Requests that arrive together. Lengths are drawn from ranges, both ends included, once for all rounds.

    shared_tokens: in front of every prompt, the same for all, beside `prompt_tokens` of its own.
    counted: which tokens its rate counts, `new` or `prompt`.
    primed: one more request of the same prefix is answered before, unmeasured.
    """

    name: str
    requests: int
    prompt_tokens: tuple[int, int]
    new_tokens: tuple[int, int]
    shared_tokens: int = 0
    counted: str = "new"
    primed: bool = False

    def units(self, burst: Burst) -> int:
        """How many tokens the burst's rate counts."""
        return sum(one.new_tokens if self.counted == "new" else len(one.ids) for one in burst.prompts)


@dataclass(frozen=True, slots=True)
class Workload:
    """The whole file. Prompts are random words, so nothing is shared or repeated but what is meant to be."""

    model: str
    seed: int
    words: range
    points: Sequence[Point]
    salt: str = ""  # other words in requests of the same lengths

    def burst(self, point: Point, turn: int) -> Burst:
        """The point's requests in round `turn`."""
        lengths, draw = random.Random(f"{self.seed} {point.name}"), self._draw(point, turn, "own")
        prefix = self._prefix(point, turn)
        return Burst(
            [
                Prompt(
                    prefix + draw.choices(self.words, k=lengths.randint(*point.prompt_tokens)),
                    lengths.randint(*point.new_tokens),
                )
                for _ in range(point.requests)
            ],
            point.shared_tokens,
        )

    def primer(self, point: Point, turn: int) -> Burst:
        """One request that leaves the prefix of that round's burst in an engine's memory."""
        own = self._draw(point, turn, "primer").choices(self.words, k=point.prompt_tokens[0])
        return Burst([Prompt(self._prefix(point, turn) + own, 1)], point.shared_tokens)

    def _prefix(self, point: Point, turn: int) -> list[int]:
        return self._draw(point, turn, "shared").choices(self.words, k=point.shared_tokens)

    def _draw(self, point: Point, turn: int, part: str) -> random.Random:
        return random.Random(f"{self.seed} {point.name} {turn} {part}{self.salt}")


def load(path: Path = FILE) -> Workload:
    text: dict[str, Any] = json.loads(path.read_text())
    points = [
        Point(**{key: tuple(value) if isinstance(value, list) else value for key, value in one.items()})
        for one in text["points"]
    ]
    return Workload(text["model"], text["seed"], range(*text["words"]), points)


def check(burst: Burst, outcome: Outcome) -> None:
    """RuntimeError unless every prompt got as many tokens as it asked for."""
    wanted = [one.new_tokens for one in burst.prompts]
    if wanted != [len(row) for row in outcome.tokens]:
        raise RuntimeError(f"tokens asked for: {wanted}; given: {[len(row) for row in outcome.tokens]}")
