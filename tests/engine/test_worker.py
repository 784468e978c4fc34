"""The engine's thread: exactly one end for each request, whoever leaves, fails or closes."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import torch

from services.generation.engine.load import Load
from services.generation.engine.request import Request, Sequence, Stopping
from services.generation.worker import EngineWorker
from services.runtime.errors import Overloaded, ServiceError, Unavailable
from tests.engine.tiny import make_engine, run, sequence, text_sink, tiny_model


class Counts:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.first = self.later = self.steps = self.prompts = self.breakdowns = 0
        self.load: Load | None = None

    def stepped(self, sequences: int, waiting: int) -> None:
        self.steps += 1

    def stands(self, load: Load) -> None:
        self.load = load

    def tokens(self, count: int, since_s: float, first: bool, span: object = None) -> None:
        assert since_s >= 0
        self.first += first
        self.later += not first

    def started(self, queue_s: float, prompt_tokens: int, cached_tokens: int) -> None:
        self.prompts += prompt_tokens

    def broke(self) -> None:
        self.breakdowns += 1


@asynccontextmanager
async def working(**limits: int) -> AsyncIterator[tuple[EngineWorker, Counts]]:
    torch.set_num_threads(1)
    queue_limit = limits.pop("queue_limit", 512)
    worker = EngineWorker(
        make_engine(tiny_model(), **limits), "test-engine", counts := Counts(), queue_limit=queue_limit
    )
    try:
        yield worker, counts
    finally:
        await worker.close()


async def tokens(worker: EngineWorker, one: Sequence, stop_after: int = 10_000) -> list[int]:
    found: list[int] = []
    with worker.open([one]) as stream:
        async for batch in stream.batches():
            found += [token for delta in batch for token in delta.token_ids]
            if len(found) >= stop_after:
                break
    return found[:stop_after]


async def idle(worker: EngineWorker) -> None:
    async with asyncio.timeout(10):
        while worker.engine.busy:
            await asyncio.sleep(0)


async def test_two_hundred_callers_of_whom_some_leave() -> None:
    draw = random.Random(0)
    prompts = [[draw.randrange(128) for _ in range(draw.randint(1, 40))] for _ in range(200)]
    leave = [draw.choice((10_000, 10_000, 1, 3)) for _ in prompts]
    expected = [
        result.tokens for result in run(make_engine(tiny_model(), num_blocks=2000), [*map(sequence, prompts)])
    ]
    async with working(max_sequences=16) as (worker, counts):

        async def call(place: int) -> list[int]:
            await asyncio.sleep(draw.random() * 0.2)
            return await tokens(worker, sequence(prompts[place]), leave[place])

        found = await asyncio.gather(*map(call, range(len(prompts))))
        await idle(worker)
        worker.engine.scheduler.check_integrity()
        assert worker.engine.scheduler.pool.available == worker.engine.scheduler.pool.usable
    assert found == [one[:most] for one, most in zip(expected, leave, strict=True)]
    assert counts.first == len(prompts) and counts.prompts == sum(map(len, prompts))


async def test_closing_ends_what_runs_with_unavailable() -> None:
    async with working() as (worker, _):
        call = asyncio.create_task(tokens(worker, sequence([1, 2], max_tokens=500)))
        async with asyncio.timeout(10):
            while not worker.engine.steps:
                await asyncio.sleep(0)
        await worker.close()
        with pytest.raises(Unavailable):
            await call
        with pytest.raises(Unavailable), worker.open([sequence([1])]):
            pass


async def test_a_step_that_raises_ends_its_requests_and_no_others() -> None:
    async with working() as (worker, _):
        good = worker.engine.runner

        class Broken:
            def run(self, step: object) -> object:
                worker.engine.runner = good
                raise RuntimeError("broken")

        worker.engine.runner = Broken()  # type: ignore[assignment]
        with pytest.raises(RuntimeError, match="broken"):
            await tokens(worker, sequence([1, 2]))
        assert len(await tokens(worker, sequence([1, 2]))) == 20


async def test_a_request_that_the_engine_does_not_take_ends_and_the_thread_lives() -> None:
    async with working() as (worker, _):
        share, arrivals = worker.engine.scheduler.shares, iter([RuntimeError("no room in the books")])
        arrive = share.arrive

        def refuse_once(*told: object) -> None:
            for error in arrivals:
                raise error
            arrive(*told)  # type: ignore[arg-type]

        share.arrive = refuse_once  # type: ignore[method-assign]
        async with asyncio.timeout(10):
            with pytest.raises(RuntimeError, match="no room"):
                await tokens(worker, sequence([1, 2]))
            assert len(await tokens(worker, sequence([1, 2]))) == 20


async def test_an_engine_that_breaks_down_leaves_nobody_waiting() -> None:
    """A step fails, and so does ending what was in it."""
    async with working() as (worker, counts):

        def broken(*told: object) -> object:
            raise RuntimeError("broken")

        waiting = [asyncio.create_task(tokens(worker, sequence([1, 2], max_tokens=500))) for _ in range(3)]
        async with asyncio.timeout(10):
            while not worker.engine.steps:
                await asyncio.sleep(0)
            worker.engine.fail = worker.engine.runner.run = broken  # type: ignore[assignment, method-assign]
            found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(one) for one in found] == [Unavailable] * 3 and counts.breakdowns == 1
        with pytest.raises(Unavailable), worker.open([sequence([1])]):
            pass


class BrokenText:
    """A sequence's own work that fails from its third token on."""

    taken = 0

    def push(self, token: int) -> tuple[str, str | None]:
        self.taken += 1
        return ("", None) if self.taken < 3 else ([].pop(), None)

    def flush(self) -> tuple[str, str | None]:
        return "", None


async def test_a_sequence_whose_own_work_fails_ends_alone() -> None:
    (alone,) = run(make_engine(tiny_model()), [sequence([1, 2])])
    async with working() as (worker, _):
        broken = sequence([3, 4])
        broken.text = BrokenText()
        good, bad = await asyncio.gather(
            tokens(worker, sequence([1, 2])), tokens(worker, broken), return_exceptions=True
        )
        await idle(worker)
        assert worker.engine.scheduler.pool.available == worker.engine.scheduler.pool.usable
    assert isinstance(bad, IndexError) and good == alone.tokens


class BrokenScores(dict[int, object]):
    """Prompt scores that cannot be kept."""

    def __setitem__(self, place: int, score: object) -> None:
        raise OSError("full")


async def test_a_prompt_that_cannot_be_scored_ends_alone() -> None:
    (alone,) = run(make_engine(tiny_model()), [sequence([1, 2])])
    async with working() as (worker, _):
        asked = Request((3, 4, 5), prompt_logprobs=1, prompt_scores=BrokenScores())  # type: ignore[arg-type]
        scored = Sequence(asked, 0, sequence([1]).text)
        good, bad = await asyncio.gather(
            tokens(worker, sequence([1, 2])), tokens(worker, scored), return_exceptions=True
        )
        await idle(worker)
    assert isinstance(bad, OSError) and good == alone.tokens


def of(tenant: str) -> Sequence:
    return Sequence(Request((1,), stopping=Stopping(max_tokens=400), tenant=tenant), 0, text_sink())


async def test_a_tenant_cannot_keep_the_others_out() -> None:
    async with working(max_sequences=2, queue_limit=2) as (worker, _):
        calls = [asyncio.create_task(tokens(worker, of("many"))) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="the limit is 4"):
            await tokens(worker, of("few"))
        calls[0].cancel()
        await asyncio.wait(calls[:1])
        with pytest.raises(Overloaded, match="whose part is 2"):
            await tokens(worker, of("many"))
        assert await tokens(worker, of("few"), stop_after=1)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def test_it_shows_how_it_stands_and_that_nothing_is_left() -> None:
    async with working(max_sequences=1) as (worker, counts):
        prompt = range(40)
        calls = [
            asyncio.create_task(tokens(worker, Sequence(Request(tuple(prompt), priority=p), 0, text_sink())))
            for p in (9, 9, 0, 0, 0, -1)
        ]
        async with asyncio.timeout(10):
            while counts.load is None or sum(counts.load.waiting.values()) < 5:
                await asyncio.sleep(0)
        assert counts.load.waiting == {"high": 1, "normal": 3, "low": 1} and counts.load.blocks["held"] >= 3
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        async with asyncio.timeout(10):
            while counts.load.blocks["held"] or worker.engine.busy:
                await asyncio.sleep(0)
        assert sum(counts.load.blocks.values()) == worker.engine.scheduler.pool.usable
        assert not any(counts.load.waiting.values()) and counts.load.steps == worker.engine.steps


async def test_the_bound_counts_sequences_and_is_given_back() -> None:
    async with working(max_sequences=2, queue_limit=2) as (worker, _):
        family = [sequence([1], max_tokens=400) for _ in range(4)]
        calls = [asyncio.create_task(tokens(worker, one)) for one in family]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as error:
            await tokens(worker, sequence([1]))
        assert isinstance(error.value, ServiceError) and error.value.retry_after_s
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert len(await tokens(worker, sequence([1], max_tokens=3))) == 3
