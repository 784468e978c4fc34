"""What drafts bring to texts that repeat themselves and to others: our service with them and without."""

import asyncio
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1.generation_service_pb2 import GenerateRequest
from tests.bench.load import Sample, interleave, median, ratio, sample, spread
from tests.bench.options import Options
from tests.bench.table import Table

FILE = Path(__file__).with_name("texts.json")
NEW_TOKENS = 128
TIMES = {1: 1, 8: 4}  # by requests in flight, how often each text is asked for: the last must not wait alone
# Of repeating texts the likeliest continuation; of the others a draw, since a small model's likeliest one loops.
TEMPERATURE = {"repeats": 0.0, "other": 0.8}


class Drafting:
    """The same texts from every stub of `ways`; all must give the same tokens."""

    def __init__(self, model: str, ways: Mapping[str, Any]) -> None:
        self._model, self._ways = model, ways
        self._texts: dict[str, list[str]] = json.loads(FILE.read_text())
        self._told: dict[tuple[str, int, int], list[int]] = {}
        self._turns: dict[tuple[str, int, str], int] = {}

    async def table(self, baseline: str, options: Options) -> Table:
        """Rates by kind of text, and as a multiple of `baseline`'s."""
        cases = [(kind, count, way) for kind in self._texts for count in TIMES for way in self._ways]
        found = await interleave(
            {case: partial(self._measure, *case) for case in cases}, options.repeat, options.tell
        )
        table = Table(
            f"generation: drafts, {NEW_TOKENS} new tokens a text",
            ("texts", "in flight", "way", "tokens/s", f"x {baseline}", "spread"),
        )
        for kind, count, way in cases:
            samples = found[kind, count, way]
            share = ratio(samples, found[kind, count, baseline])
            table.add(samples, kind, count, way, median(samples).rate, share, f"{spread(samples):.0%}")
        return table

    async def _measure(self, kind: str, count: int, way: str) -> Sample:
        turn = self._turns[kind, count, way] = self._turns.get((kind, count, way), 0) + 1
        gate, began = asyncio.Semaphore(count), perf_counter()
        asked = [(place, turn, time) for time in range(TIMES[count]) for place in range(len(self._texts[kind]))]
        latencies = await asyncio.gather(*(self._one(gate, self._ways[way], kind, *one) for one in asked))
        return sample(latencies, NEW_TOKENS * len(asked), perf_counter() - began)

    async def _one(self, gate: asyncio.Semaphore, stub: Any, kind: str, place: int, turn: int, time: int) -> float:
        async with gate:
            began = perf_counter()
            reply = await stub.Generate(self._request(kind, place, turn, time))
            elapsed = perf_counter() - began
        tokens = list(reply.completions[0].token_ids)
        if tokens != self._told.setdefault((kind, place, turn), tokens) or len(tokens) != NEW_TOKENS:
            raise RuntimeError(f"text {place} of {kind}: not the {NEW_TOKENS} tokens that the other way gave")
        return elapsed

    def _request(self, kind: str, place: int, turn: int, time: int) -> GenerateRequest:
        """A text as it stands, or as a question; its prompt is computed anew each time."""
        text = self._texts[kind][place]
        asked = {"text": text} if kind == "repeats" else {"chat": pb.Chat(messages=[_question(text)])}
        return GenerateRequest(
            model=self._model,
            sampling=pb.Sampling(temperature=TEMPERATURE[kind], seed=turn),
            stopping=pb.Stopping(max_tokens=NEW_TOKENS, ignore_eos=True),
            cache_salt=f"{turn} {time}",
            **asked,
        )


def _question(text: str) -> pb.Message:
    return pb.Message(role="user", content=text)
