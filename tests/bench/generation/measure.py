"""From engines and points to samples: warm-up, rounds, checks. Knows neither gRPC nor any engine."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from tests.bench.generation.engines import Engine
from tests.bench.generation.workload import Point, Workload, check
from tests.bench.load import Sample, interleave, sample
from tests.bench.options import Options
from tests.bench.peers.burst import Burst, Prompt

Found = Mapping[tuple[str, str], list[Sample]]
WARM_UP_TOKENS = 4


class Bench:
    """The same bursts for every engine; the n-th measurement of a point is the same for all of them.

    `apart`: each engine gets words of its own instead, for engines that share a memory of prefixes.
    """

    def __init__(self, workload: Workload, engines: Mapping[str, Engine], *, apart: bool = False) -> None:
        self._workloads = {name: replace(workload, salt=name) if apart else workload for name in engines}
        self._engines = engines
        self._turns: dict[tuple[str, str], int] = {}
        self._tokens: dict[tuple[str, str, int], list[list[int]]] = {}

    async def run(self, points: list[Point], options: Options) -> Found:
        """By point's name and engine's."""
        ways = {
            (point.name, name): partial(self._measure, point, name) for point in points for name in self._engines
        }
        return await interleave(ways, options.repeat, options.tell)

    def agreement(self, point: str, engine: str, reference: str) -> float | None:
        """Of all the answers the share whose first token is the reference's. None without one."""
        pairs = [
            (row[0], other[0])
            for (name, which, turn), rows in self._tokens.items()
            if (name, which) == (point, engine)
            for row, other in zip(rows, self._tokens.get((point, reference, turn), ()), strict=False)
        ]
        return sum(a == b for a, b in pairs) / len(pairs) if pairs else None

    async def _measure(self, point: Point, name: str) -> Sample:
        engine, workload = self._engines[name], self._workloads[name]
        turn = self._turns[point.name, name] = self._turns.get((point.name, name), 0) + 1
        if turn == 1:
            await engine.play(_short(workload.burst(point, 0)))
        if point.primed:
            await engine.play(workload.primer(point, turn))
        burst = workload.burst(point, turn)
        outcome = await engine.play(burst)
        check(burst, outcome)
        self._tokens[point.name, name, turn] = outcome.tokens
        return sample(outcome.latencies_s, point.units(burst), outcome.elapsed_s)


def _short(burst: Burst) -> Burst:
    """The same prompts with a few new tokens each."""
    prompts = [Prompt(one.ids, min(one.new_tokens, WARM_UP_TOKENS)) for one in burst.prompts]
    return Burst(prompts, burst.shared)
