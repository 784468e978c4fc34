"""Three ways to have a burst answered: our service, our engine without the service, another engine."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any, Protocol

from maas.common.v1 import tensor_pb2
from maas.generation.v1 import generation_pb2, generation_service_pb2
from tests.bench.generation import bare_engine
from tests.bench.options import Options
from tests.bench.peers.burst import Burst, Outcome, Progress, Prompt
from tests.bench.peers.prepare import Ready
from tests.bench.worker import Worker, worker


class Engine(Protocol):
    """Answers bursts, one at a time."""

    async def play(self, burst: Burst) -> Outcome: ...


class Unary:
    """A `Generate` call for each prompt."""

    def __init__(self, stub: Any, model: str) -> None:
        self._stub, self._model = stub, model

    async def play(self, burst: Burst) -> Outcome:
        progress = Progress(burst)
        await asyncio.gather(*(self._one(progress, place, one) for place, one in enumerate(burst.prompts)))
        return progress.outcome()

    async def _one(self, progress: Progress, place: int, prompt: Prompt) -> None:
        reply = await self._stub.Generate(request(self._model, prompt))
        progress.add(place, *reply.completions[0].token_ids)


class Streamed(Unary):
    """A `GenerateStream` call for each prompt, a message a token."""

    async def _one(self, progress: Progress, place: int, prompt: Prompt) -> None:
        async for reply in self._stub.GenerateStream(request(self._model, prompt)):
            progress.add(place, *reply.token_ids)


class InProcess:
    """An engine in a process of its own, asked a burst at a time. `start_s`: from start to the first answer;
    `release`: its package and version.
    """

    def __init__(self, behind: Worker, start_s: float) -> None:
        self._behind = behind
        self.start_s, self.peak_mib, self.release = start_s, 0.0, ""

    async def play(self, burst: Burst) -> Outcome:
        prompts = [[one.ids, one.new_tokens] for one in burst.prompts]
        answer = await self._behind.ask(prompts=prompts, shared=burst.shared)
        self.peak_mib = answer.pop("peak_kib") / 1024
        return Outcome(**answer)


def request(model: str, prompt: Prompt) -> generation_service_pb2.GenerateRequest:
    """Greedy, which is the default, to the last token."""
    return generation_service_pb2.GenerateRequest(
        model=model,
        token_ids=tensor_pb2.TokenIds(values=prompt.ids),
        stopping=generation_pb2.Stopping(max_tokens=prompt.new_tokens, ignore_eos=True),
    )


@asynccontextmanager
async def peer(ready: Ready, threads: int, options: Options) -> AsyncIterator[InProcess]:
    """Another engine, its threads pinned: without that an OpenMP pool on so few cores loses most of its speed."""
    pinned = {
        "OMP_NUM_THREADS": str(threads),
        "OMP_PROC_BIND": "true",
        "OMP_PLACES": "cores",
        "HF_HUB_OFFLINE": "1",
    }
    log = options.logs / f"peer-{ready.name.replace(' ', '-')}.log"
    arguments = (str(ready.model), str(threads))
    async with _started(ready.module, *arguments, environment=pinned, log=log, python=ready.python) as engine:
        engine.release = ready.release
        yield engine


@asynccontextmanager
async def own(model: str, environment: Mapping[str, str], options: Options) -> AsyncIterator[InProcess]:
    """Our engine as the service would run it, without the service."""
    log = options.logs / "engine.log"
    async with _started(bare_engine.__name__, model, environment=environment, log=log) as engine:
        yield engine


@asynccontextmanager
async def _started(module: str, *arguments: str, **how: Any) -> AsyncIterator[InProcess]:
    began = perf_counter()
    async with worker(module, *arguments, **how) as behind:
        engine = InProcess(behind, 0.0)
        await engine.play(Burst([Prompt(list(range(1000, 1008)), 4)]))
        engine.start_s = perf_counter() - began
        yield engine
