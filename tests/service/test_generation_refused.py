"""What the generation service refuses, and how it says so."""

import asyncio
import math

import grpc
import pytest

from maas.common.v1 import tensor_pb2
from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1 import generation_service_pb2 as service_pb
from maas.generation.v1.generation_service_pb2_grpc import (
    GenerationServiceStub as Stub,
)
from tests.service.generation import (
    CONTEXT,
    TEXT,
    Ask,
    Served,
    free,
    joined,
    refusal,
    words,
)

HUGE = tensor_pb2.TokenIds(values=[1, 10**9])
REFUSED: list[tuple[Ask, str, str]] = [
    (Ask(text=TEXT, sampling=pb.Sampling(temperature=-1)), "sampling.temperature", "at least 0"),
    (Ask(text=TEXT, sampling=pb.Sampling(temperature=math.nan)), "sampling.temperature", "finite"),
    (Ask(text=TEXT, sampling=pb.Sampling(top_p=1.5)), "sampling.top_p", "at most 1"),
    (Ask(token_ids=HUGE), "token_ids.values[1]", "0 to 399"),
    (Ask(token_ids=tensor_pb2.TokenIds()), "token_ids", "no tokens"),
    (Ask(text=""), "text", "no tokens"),
    (Ask(), "prompt", "must be set"),
    (Ask(text="word " * 500), "text", f"context of {CONTEXT}"),
    (Ask(text=TEXT, stopping=pb.Stopping(max_tokens=0)), "stopping.max_tokens", "at least 1"),
    (Ask(text=TEXT, stopping=pb.Stopping(max_tokens=2, min_tokens=3)), "stopping.min_tokens", "at most 2"),
    (Ask(text=TEXT, stopping=pb.Stopping(stop=[""])), "stopping.stop[0]", "empty"),
    (Ask(text=TEXT, stopping=pb.Stopping(stop_token_ids=[1, 400])), "stopping.stop_token_ids[1]", "0 to 399"),
    (Ask(text=TEXT, sampling=pb.Sampling(allowed_token_ids=[400])), "sampling.allowed_token_ids[0]", "0 to 399"),
    (Ask(text=TEXT, sampling=pb.Sampling(logit_bias={400: 1.0})), "sampling.logit_bias[400]", "0 to 399"),
    (Ask(text=TEXT, sampling=pb.Sampling(n=3, best_of=2)), "sampling.best_of", "less than n"),
    (Ask(text=TEXT, sampling=pb.Sampling(num_beams=2, temperature=0.5)), "sampling.temperature", "draws nothing"),
    (Ask(text=TEXT, sampling=pb.Sampling(num_beams=2, n=3)), "sampling.n", "more than num_beams = 2"),
    (Ask(text=TEXT, sampling=pb.Sampling(num_beams=4, best_of=2)), "sampling.best_of", "leave it unset"),
    (Ask(text=TEXT, sampling=pb.Sampling(length_penalty=2)), "sampling.length_penalty", "set num_beams above 1"),
    (
        Ask(text=TEXT, sampling=pb.Sampling(num_beams=4, length_penalty=11)),
        "sampling.length_penalty",
        "at most 10",
    ),
    (Ask(text=TEXT, sampling=pb.Sampling(num_beams=65)), "sampling.num_beams", "at most 64"),
    (Ask(chat=pb.Chat(messages=[pb.Message(role="wizard", content="x")])), "chat.messages[0].role", "wizard"),
]


@pytest.mark.parametrize(("request_", "field", "said"), REFUSED, ids=[f"{field}" for _, field, _ in REFUSED])
async def test_bad_fields_are_named_with_limit_and_fix(stub: Stub, request_: Ask, field: str, said: str) -> None:
    code, fields, text = await refusal(stub.Generate(request_))
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field]) and said in text
    if field != "prompt":
        code, fields, text = await refusal(joined(stub, request_))
        assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field]) and said in text
    assert (await stub.Generate(Ask(text=TEXT, stopping=free(1)))).completions


async def test_resume_and_best_of_are_not_for_streams(stub: Stub) -> None:
    call = stub.GenerateStream(service_pb.GenerateStreamRequest(resume=pb.Resume(stream_id="x")))
    assert (await refusal(call.read()))[0] is grpc.StatusCode.UNIMPLEMENTED
    code, fields, _ = await refusal(joined(stub, Ask(text=TEXT, sampling=pb.Sampling(n=1, best_of=2))))
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["sampling.best_of"])


async def test_chat_without_a_template_is_refused(served: Served) -> None:
    call = served.stub.Generate(Ask(model="mute", chat=pb.Chat(messages=[pb.Message(role="user", content="hi")])))
    assert (await refusal(call))[0] is grpc.StatusCode.FAILED_PRECONDITION


async def test_other_refusals(stub: Stub) -> None:
    ids = tensor_pb2.TokenIds(values=[1, 2], tokenizer_digest="sha256:other")
    score = service_pb.ScoreRequest(token_ids=ids)
    for call in (stub.Generate(Ask(token_ids=ids)), joined(stub, Ask(token_ids=ids)), stub.Score(score)):
        code, _, text = await refusal(call)
        assert code is grpc.StatusCode.FAILED_PRECONDITION and "tokenizer sha256:other" in text
    assert (await refusal(stub.Generate(Ask(model="none", text=TEXT))))[0] is grpc.StatusCode.NOT_FOUND
    short = service_pb.ScoreRequest(token_ids=tensor_pb2.TokenIds(values=[5]))
    code, fields, _ = await refusal(stub.Score(short))
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["token_ids"])


async def test_no_choice_left_fails_its_request_alone(stub: Stub) -> None:
    eos = words().eos_id
    hopeless = Ask(
        text=TEXT,
        sampling=pb.Sampling(allowed_token_ids=[eos or 0]),
        stopping=pb.Stopping(min_tokens=2, max_tokens=9),
    )
    good, bad = await asyncio.gather(
        stub.Generate(Ask(text=TEXT, stopping=free())), refusal(stub.Generate(hopeless))
    )
    assert bad[:2] == (grpc.StatusCode.INVALID_ARGUMENT, ["sampling"]) and good.usage.completion_tokens == 24


async def test_a_penalty_near_zero_is_refused_and_a_hundredth_is_not(stub: Stub) -> None:
    def asked(penalty: float) -> Ask:
        return Ask(text=TEXT, sampling=pb.Sampling(repetition_penalty=penalty), stopping=free(3))

    code, fields, text = await refusal(stub.Generate(asked(1e-42)))
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["sampling.repetition_penalty"])
    assert "at least 0.01" in text
    assert (await stub.Generate(asked(0.01))).usage.completion_tokens == 3
