"""What sampling and stopping do to an answer, over a real server and stub."""

from typing import Any

from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1.generation_service_pb2_grpc import (
    GenerationServiceStub as Stub,
)
from tests.service.generation import TEXT, WARM, Ask, free, words


async def test_the_end_token_ends(stub: Stub) -> None:
    eos = words().eos_id or 0
    bias = pb.Sampling(logit_bias={eos: 100})
    reply = await stub.Generate(Ask(text=TEXT, sampling=bias))
    (found,) = reply.completions
    assert (found.finish_reason, list(found.token_ids), found.text) == (pb.FINISH_REASON_EOS, [eos], "")
    shown = await stub.Generate(
        Ask(text=TEXT, sampling=bias, stopping=free(3), output=pb.Output(skip_special_tokens=False))
    )
    assert shown.completions[0].text == "<|im_end|>" * 3


async def test_stops_are_named(stub: Stub) -> None:
    whole = (await stub.Generate(Ask(text=TEXT, sampling=WARM, stopping=free()))).completions[0]
    stop = whole.text[5:8]
    by_text = (await stub.Generate(Ask(text=TEXT, sampling=WARM, stopping=free(stop=[stop])))).completions[0]
    assert by_text.stop_match.text == stop and by_text.finish_reason == pb.FINISH_REASON_STOP
    assert by_text.text == whole.text[: whole.text.index(stop)]
    token = whole.token_ids[3]
    request = Ask(text=TEXT, sampling=WARM, stopping=free(stop_token_ids=[token]))
    by_token = (await stub.Generate(request)).completions[0]
    assert by_token.stop_match.token_id == token and by_token.token_ids[-1] == token


async def test_bad_words_never_appear(stub: Stub) -> None:
    plain = (await stub.Generate(Ask(text=TEXT, sampling=WARM, stopping=free(60)))).completions[0].text
    letters = sorted(set(plain) - {"\ufffd"})[:20]
    kept = (
        (
            await stub.Generate(
                Ask(text=TEXT, sampling=pb.Sampling(temperature=1.5, seed=7, bad_words=letters), stopping=free(60))
            )
        )
        .completions[0]
        .text
    )
    assert letters and not set(letters) & set(kept)


async def test_seeds(stub: Stub) -> None:
    async def text(**sampling: Any) -> tuple[str, int]:
        request = Ask(text=TEXT, sampling=pb.Sampling(temperature=2, **sampling), stopping=free())
        reply = await stub.Generate(request)
        return reply.completions[0].text, reply.seed

    chosen, seed = await text()
    assert (await text(seed=seed)) == (chosen, seed)
    assert (await text())[1] != seed
    assert (await text(seed=2**64 - 1))[1] == 2**64 - 1


async def test_n_and_best_of(stub: Stub) -> None:
    def request(**counts: int) -> Ask:
        return Ask(text=TEXT, sampling=pb.Sampling(temperature=2, seed=1, **counts), stopping=free())

    many = await stub.Generate(request(n=5))
    assert [one.index for one in many.completions] == list(range(5))
    assert len({one.text for one in many.completions}) == 5
    best = await stub.Generate(request(n=2, best_of=5))
    ranked = sorted(many.completions, key=lambda one: one.cumulative_logprob, reverse=True)
    assert [one.text for one in best.completions] == [one.text for one in ranked[:2]]
    assert best.usage.completion_tokens == 5 * 24
