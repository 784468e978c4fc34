"""Generated tokens a second over gRPC against `transformers.generate` on the same weights. Greedy, EOS ignored."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from time import perf_counter
from typing import Any

from maas.common.v1 import tensor_pb2
from maas.generation.v1 import generation_pb2, generation_service_pb2, generation_service_pb2_grpc
from services.generation.settings import GenerationSettings
from services.runtime.channels import open_channel
from services.runtime.store.store import ModelStore
from tests.bench import bare_generate
from tests.bench.load import Sample, interleave, median, ratio, sample, spread
from tests.bench.options import Options
from tests.bench.servers import running, suite
from tests.bench.table import Table
from tests.bench.worker import Worker, worker

MODEL = "smollm2-135m-instruct"
IN_FLIGHT = (1, 8)
PROMPT_TOKENS, NEW_TOKENS, WARM_UP_TOKENS = 64, 64, 8
# Ordinary words: below are special tokens and single bytes.
WORDS = range(1000, 40000)
OURS, THEIRS = "service, over gRPC", "transformers.generate"
COLUMNS = ("in flight", "engine", "tokens/s", "round ms", "x transformers", "same tokens", "spread")

Prompts = Sequence[Sequence[int]]


class Pair:
    """The service and the reference given the same prompts; keeps how many of their tokens agree."""

    def __init__(self, stub: Any, reference: Worker) -> None:
        self._stub, self._reference = stub, reference
        self._answers: dict[tuple[int, int, str], list[list[int]]] = {}
        self._turns: dict[tuple[int, str], int] = {}

    async def measure(self, in_flight: int, engine: str) -> Sample:
        """One round: `in_flight` prompts that nobody has seen, all at once; its n-th is the same for both."""
        turn = self._turns[in_flight, engine] = self._turns.get((in_flight, engine), 0) + 1
        run = self._ours if engine == OURS else self._theirs
        await run(prompts(in_flight, -turn), WARM_UP_TOKENS)
        tokens, latencies, elapsed = await run(prompts(in_flight, turn), NEW_TOKENS)
        if any(len(row) != NEW_TOKENS for row in tokens):
            raise RuntimeError(f"{engine} did not give {NEW_TOKENS} tokens to each prompt")
        self._answers[in_flight, turn, engine] = tokens
        return sample(latencies, in_flight * NEW_TOKENS, elapsed)

    def agreement(self, in_flight: int) -> float:
        """Share of equal tokens at equal places over all rounds."""
        equal = [
            a == b
            for (size, turn, engine), rows in self._answers.items()
            if size == in_flight and engine == OURS
            for ours, theirs in zip(rows, self._answers[size, turn, THEIRS], strict=True)
            for a, b in zip(ours, theirs, strict=True)
        ]
        return sum(equal) / len(equal)

    async def _ours(self, rows: Prompts, new_tokens: int) -> tuple[list[list[int]], list[float], float]:
        async def one(row: Sequence[int]) -> tuple[list[int], float]:
            began = perf_counter()
            reply = await self._stub.Generate(_request(row, new_tokens))
            return list(reply.completions[0].token_ids), perf_counter() - began

        began = perf_counter()
        done = await asyncio.gather(*map(one, rows))
        elapsed = perf_counter() - began
        return [tokens for tokens, _ in done], [latency for _, latency in done], elapsed

    async def _theirs(self, rows: Prompts, new_tokens: int) -> tuple[list[list[int]], list[float], float]:
        answer = await self._reference.ask(prompts=rows, new_tokens=new_tokens)
        return answer["tokens"], [answer["elapsed_s"]], answer["elapsed_s"]


async def run(options: Options) -> list[Table]:
    """One table: in flight x engine. A batch of the reference is one `generate` call with equally long prompts."""
    program = suite(options.store, extra=options.environment)["generation"]
    threads = options.threads or GenerationSettings().threads
    store = ModelStore(options.store)
    directory = store.directory(store.resolve(MODEL))
    async with AsyncExitStack() as stack:
        reference = await stack.enter_async_context(
            worker(
                bare_generate.__name__,
                *(str(directory), str(threads)),
                environment=program.environment,
                log=options.logs / "bare_generate.log",
            )
        )
        servers = await stack.enter_async_context(running([program], options.logs))
        channel = await stack.enter_async_context(open_channel(servers["generation"].address, retry=False))
        pair = Pair(generation_service_pb2_grpc.GenerationServiceStub(channel), reference)
        keys = [(in_flight, engine) for in_flight in IN_FLIGHT for engine in (OURS, THEIRS)]
        found = await interleave({key: partial(pair.measure, *key) for key in keys}, options.repeat, options.tell)
    title = f"generation: {MODEL} fp32, {PROMPT_TOKENS} + {NEW_TOKENS} tokens, compute threads: {threads}"
    table = Table(title, COLUMNS)
    for (in_flight, engine), samples in found.items():
        middle, floor = median(samples), found[in_flight, THEIRS]
        round_ms = in_flight * NEW_TOKENS / middle.rate * 1e3
        same = f"{pair.agreement(in_flight):.1%}" if engine == OURS else None
        noise = f"{spread(samples):.0%}"
        table.add(samples, in_flight, engine, middle.rate, round_ms, ratio(samples, floor), same, noise)
    return [table]


def prompts(count: int, seed: int) -> list[list[int]]:
    """Random words, so that no two prompts share a prefix that could be remembered."""
    draw = random.Random(f"{count} {seed}")
    return [draw.choices(WORDS, k=PROMPT_TOKENS) for _ in range(count)]


def _request(tokens: Sequence[int], new_tokens: int) -> generation_service_pb2.GenerateRequest:
    return generation_service_pb2.GenerateRequest(
        model=MODEL,
        token_ids=tensor_pb2.TokenIds(values=tokens),
        stopping=generation_pb2.Stopping(max_tokens=new_tokens, ignore_eos=True),
    )
