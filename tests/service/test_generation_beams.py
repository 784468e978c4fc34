"""Beam search over a real server: whole, streamed, with all that may be asked of a completion."""

import asyncio

import grpc
import pytest

from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1.generation_service_pb2_grpc import (
    GenerationServiceStub as Stub,
)
from tests.service.generation import TEXT, Ask, Served, free, idle, joined, refusal, streamed, words

WIDE = pb.Sampling(num_beams=4, n=3)


def asked(sampling: pb.Sampling = WIDE, stopping: pb.Stopping | None = None, **output: object) -> Ask:
    return Ask(text=TEXT, sampling=sampling, stopping=stopping or free(12), output=pb.Output(**output))


async def test_completions_come_best_first_and_differ(stub: Stub) -> None:
    reply = await stub.Generate(asked())
    assert [one.index for one in reply.completions] == [0, 1, 2]
    sums = [one.cumulative_logprob for one in reply.completions]
    assert sums == sorted(sums, reverse=True) and len({tuple(one.token_ids) for one in reply.completions}) == 3
    (greedy,) = (await stub.Generate(asked(pb.Sampling()))).completions
    assert sums[0] >= greedy.cumulative_logprob  # of this net and text
    assert reply.usage.completion_tokens == 3 * 12 and reply.seed == 0
    (best,) = (await stub.Generate(asked(pb.Sampling(num_beams=4, best_of=4, length_penalty=1)))).completions
    assert best == reply.completions[0]


@pytest.mark.parametrize("stop", [[], ["e", "the", " "]], ids=["free", "stopped"])
async def test_all_that_may_be_asked_goes_together_and_a_stream_joins_to_it(stub: Stub, stop: list[str]) -> None:
    request = asked(
        stopping=free(20, stop=stop), logprobs=2, prompt_logprobs=1, echo=True, stream_interval_tokens=3
    )
    reply = await stub.Generate(request)
    ids = words().encode_ids(TEXT)
    assert [one.chosen.token_id for one in reply.prompt_logprobs] == ids[1:]
    for one in reply.completions:
        assert one.text.startswith(words().decode(ids))
        assert [position.chosen.token_id for position in one.logprobs] == list(one.token_ids)
        total = sum(position.chosen.logprob for position in one.logprobs)
        assert one.cumulative_logprob == pytest.approx(total, abs=1e-4)
        assert all([top.rank for top in position.top] == [1, 2] for position in one.logprobs)
    assert bool(stop) == any(one.HasField("stop_match") for one in reply.completions)
    messages, whole = await joined(stub, request)
    for expected in reply.completions:
        found = whole[expected.index]
        assert found == expected
    assert len(messages) == 3 and messages[0].prompt_logprobs == reply.prompt_logprobs
    assert messages[-1].usage.completion_tokens == reply.usage.completion_tokens
    assert not any(message.HasField("usage") for message in messages[:-1])


async def test_the_end_token_ends_a_beam(stub: Stub) -> None:
    likely = pb.Sampling(num_beams=4, n=4, logit_bias={words().eos_id or 0: 15.0})
    reply = await stub.Generate(asked(likely, pb.Stopping(max_tokens=30, min_tokens=3)))
    assert any(one.finish_reason == pb.FINISH_REASON_EOS for one in reply.completions)
    assert all(
        (one.token_ids[-1] == words().eos_id) == (one.finish_reason == pb.FINISH_REASON_EOS)
        for one in reply.completions
    )


async def test_a_search_in_company_gives_the_same_bytes(stub: Stub) -> None:
    requests = [asked(pb.Sampling(num_beams=beams, n=2)) for beams in (2, 3, 5)]
    alone = [(await stub.Generate(request)).completions for request in requests]
    others = [Ask(text=TEXT, sampling=pb.Sampling(temperature=1, seed=7, n=3), stopping=free(20))] * 3
    together = await asyncio.gather(*map(stub.Generate, [*requests, *others]))
    assert [list(reply.completions) for reply in together[:3]] == [list(found) for found in alone]


async def test_more_completions_than_there_are_outputs_is_refused(stub: Stub) -> None:
    only = pb.Sampling(num_beams=4, n=2, allowed_token_ids=[65])
    code, fields, text = await refusal(stub.Generate(asked(only)))
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["sampling.n"]) and "only 1 different" in text


async def test_a_cancelled_or_late_search_stops_the_engine(served: Served) -> None:
    before = await idle(served.engine)
    call = served.stub.GenerateStream(streamed(asked(stopping=free(150))))
    async with asyncio.timeout(10):
        while served.engine.steps < before + 3:
            await asyncio.sleep(0)
    call.cancel()
    assert await idle(served.engine) < before + 150
    code, _, _ = await refusal(served.stub.Generate(asked(stopping=free(150)), timeout=0.05))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    await idle(served.engine)
    assert served.engine.scheduler.pool.available == served.engine.scheduler.pool.usable


@pytest.mark.parametrize("overrides", [{"batch_sequences": 1, "queue_limit": 3}])
async def test_every_beam_counts_in_the_queue(served: Served) -> None:
    code, _, _ = await refusal(served.stub.Generate(asked(pb.Sampling(num_beams=5))))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    narrow = await served.stub.Generate(asked(pb.Sampling(num_beams=4)))
    assert len(narrow.completions) == 1
