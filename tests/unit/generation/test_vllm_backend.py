"""The vllm backend over a fake vLLM: who gets what, and that every sequence ends exactly once."""

import asyncio
import time
from typing import Any

import pytest

from services.generation.backends.vllm.backend import VLLMBackend
from services.generation.backends.vllm.client import EngineDied
from services.generation.backends.vllm.lasting import LastingClient
from services.generation.engine.output import Delta, FinishReason
from services.generation.engine.request import Request, SamplingParams, Sequence, Stopping
from services.runtime.errors import DeadlinePassed, InvalidInput, Overloaded, Unavailable
from tests.engine.test_worker import Counts
from tests.engine.tiny import sequence, text_sink
from tests.unit.generation.vllm_fake import Alphabet, open_gate

ABC = [97, 98, 99]


def made(client: Any, **how: int) -> VLLMBackend:
    sizes = {"context": 50, "vocab_size": 128, "queue_limit": 8, **how}
    return VLLMBackend(client, Counts(), **sizes)


async def read(backend: VLLMBackend, *sequences: Sequence) -> list[Delta]:
    with backend.open(sequences) as stream:
        return [delta async for batch in stream.batches() for delta in batch]


def siblings(count: int, **request: Any) -> list[Sequence]:
    wanted = Request(tuple(ABC), stopping=Stopping(max_tokens=4), **request)
    return [Sequence(wanted, index, text_sink()) for index in range(count)]


async def test_text_stops_and_ends_are_the_suites_own() -> None:
    client = open_gate()
    found = await read(made(client), sequence(ABC, stop=("de",), logprobs=1))
    assert "".join(delta.text for delta in found) == "abc"
    assert [delta.finish for delta in found] == [None] * 4 + [FinishReason.STOP]
    assert found[-1].sequence.stop_match.text == "de" and client.left == 1
    assert [delta.logprob for delta in found] == [-0.5, -1.0, -1.5, -2.0, -2.5]
    assert [(one.chosen.rank, [top.token_id for top in one.top]) for delta in found for one in delta.logprobs] == [
        (rank, [97]) for rank in range(1, 6)
    ]
    assert found[0].batch_size == 3 and found[0].sequence.cached_tokens == 2


async def test_the_end_token_and_the_length_end_as_in_the_engine() -> None:
    backend = made(open_gate())
    assert (await read(backend, sequence(ABC, eos_token_ids=frozenset({99}))))[-1].finish is FinishReason.EOS
    by_token = (await read(backend, sequence(ABC, stop_token_ids=frozenset({98}))))[-1]
    assert by_token.finish is FinishReason.STOP and by_token.sequence.stop_match.token_id == 98
    assert len(await read(backend, sequence(ABC, max_tokens=7))) == 7
    assert len(await read(backend, sequence(ABC, max_tokens=1000))) == 50 - len(ABC)


async def test_the_prompt_is_scored_before_any_of_the_request_goes_on() -> None:
    client = open_gate()
    first, *others = siblings(3, prompt_logprobs=1)
    found = await read(made(client), first, *others)
    assert sorted(first.request.prompt_scores) == [1, 2] and found[0].sequence is first
    assert first.request.prompt_scores[1].chosen.token_id == 98
    assert [order.sampling["prompt_logprobs"] for order in client.orders] == [1, None, None]


async def test_a_score_is_of_the_prompt_alone() -> None:
    one = Sequence(Request(tuple(ABC), stopping=Stopping(max_tokens=0), prompt_logprobs=0), 0, text_sink())
    (only,) = await read(made(open_gate()), one)
    assert only.finish is FinishReason.LENGTH and not only.token_ids and len(one.request.prompt_scores) == 2


async def test_a_reader_who_leaves_aborts() -> None:
    client = Alphabet()
    with made(client).open(siblings(2)):
        await asyncio.sleep(0.01)
        assert len(client.orders) == 2 and not client.left
    await asyncio.sleep(0.01)
    assert client.left == 2


async def test_the_deadline_ends_each_once() -> None:
    client = Alphabet()
    with pytest.raises(DeadlinePassed):
        await read(made(client), *siblings(2, deadline=time.monotonic() + 0.01))
    await asyncio.sleep(0.02)
    assert client.left == 2


async def test_a_time_out_within_the_engine_is_no_deadline_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    client = open_gate()

    async def hangs() -> None:
        raise TimeoutError("a process of vLLM did not answer")

    monkeypatch.setattr(client.gate, "wait", hangs)
    backend = made(client)
    for deadline in (None, time.monotonic() + 60):
        with pytest.raises(TimeoutError, match="did not answer"):
            await read(backend, *siblings(1, deadline=deadline))


async def test_what_the_engine_gives_up_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="gave a sequence up"):
        await read(made(open_gate(gives_up=2)), *siblings(2))


async def test_closing_ends_what_runs_and_refuses_the_rest() -> None:
    client = Alphabet()
    backend = made(client)
    readers = [asyncio.create_task(read(backend, *siblings(2))) for _ in range(2)]
    await asyncio.sleep(0.01)
    await backend.close()
    for reader in readers:
        with pytest.raises(Unavailable, match="unloaded"):
            await reader
    assert client.closed and client.left == 4
    with pytest.raises(Unavailable):
        await read(backend, *siblings(1))


async def test_the_queue_is_bounded() -> None:
    client = Alphabet()
    backend = made(client, queue_limit=3)
    with backend.open(siblings(2)), pytest.raises(Overloaded):
        await read(backend, *siblings(2))
    client.gate.set()
    assert await read(backend, *siblings(3))


@pytest.mark.parametrize(
    ("sampling", "stopping", "field"),
    [
        (SamplingParams(temperature=2.5), Stopping(), "sampling.temperature"),
        (SamplingParams(temperature=0.001), Stopping(), "sampling.temperature"),
        (
            SamplingParams(allowed_token_ids=(5, 6)),
            Stopping(min_tokens=1, eos_token_ids=frozenset({5}), stop_token_ids=frozenset({6})),
            "sampling",
        ),
    ],
)
async def test_values_it_would_change_are_refused(
    sampling: SamplingParams, stopping: Stopping, field: str
) -> None:
    one = Sequence(Request(tuple(ABC), sampling, stopping), 0, text_sink())
    with pytest.raises(InvalidInput) as error:
        await read(made(open_gate()), one)
    assert error.value.violations[0].field == field


async def test_seeds_differ_by_sequence_and_greedy_has_none() -> None:
    client = open_gate()
    backend = made(client)
    await read(backend, *siblings(3, sampling=SamplingParams(temperature=1.0), seed=2**64 - 1))
    await read(backend, *siblings(3, sampling=SamplingParams(temperature=1.0), seed=2**64 - 1))
    await read(backend, *siblings(1))
    seeds = [order.sampling["seed"] for order in client.orders]
    assert len(set(seeds[:3])) == 3 and seeds[:3] == seeds[3:6] and seeds[6] is None
    assert all(0 <= seed < 2**63 for seed in seeds[:6])


async def test_an_order_says_all_that_was_asked() -> None:
    client = open_gate()
    asked = SamplingParams(0.5, 1000, 0.9, 0.1, 1.0, 1.1, 0.2, 0.3, {7: 1.5}, (7, 8))
    stopping = Stopping(30, 4, frozenset({1}), frozenset({2}))
    request = Request(tuple(ABC), asked, stopping, logprobs=5, priority=7, salt=b"\x01\xff")
    await read(made(client), Sequence(request, 0, text_sink()))
    (order,) = client.orders
    seed = order.sampling["seed"]
    assert (order.prompt, order.salt, order.priority) == (tuple(ABC), "01ff", 7)
    assert order.sampling == {
        **{"max_tokens": 30, "min_tokens": 4, "ignore_eos": True, "stop_token_ids": [1, 2]},
        **{"logprobs": 5, "prompt_logprobs": None, "temperature": 0.5, "top_k": 128, "top_p": 0.9, "min_p": 0.1},
        **{"repetition_penalty": 1.1, "frequency_penalty": 0.2, "presence_penalty": 0.3},
        **{"logit_bias": {7: 1.5}, "allowed_token_ids": [7, 8], "seed": seed},
    }


async def revived(backend: VLLMBackend, client: Alphabet) -> None:
    """Asks until `client` is the one that answers."""
    async with asyncio.timeout(5):
        while not client.orders:
            try:
                await read(backend, *siblings(1))
            except EngineDied:
                await asyncio.sleep(0.01)


async def test_a_dead_engine_is_started_again() -> None:
    first, second = open_gate(), open_gate()
    may_start = asyncio.Event()
    loop = asyncio.get_running_loop()

    def launch() -> Alphabet:
        asyncio.run_coroutine_threadsafe(may_start.wait(), loop).result()
        return second

    backend = made(LastingClient(first, launch))
    first.died = True
    for _ in range(2):
        with pytest.raises(EngineDied):
            await read(backend, *siblings(2))
    may_start.set()
    await revived(backend, second)
    assert first.closed and len(second.orders) == 1
    await backend.close()
    assert second.closed


async def test_a_start_that_fails_is_tried_again_by_the_next_caller() -> None:
    first, second = open_gate(), open_gate()
    outcomes: list[Any] = [RuntimeError("no memory"), second]

    def launch() -> Alphabet:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    backend = made(LastingClient(first, launch))
    first.died = True
    await revived(backend, second)
    assert not outcomes
    await backend.close()
