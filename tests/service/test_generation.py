"""Generate, GenerateStream and Score over a real server and stub, with a tiny random model and a tokenizer
trained here."""

import asyncio
import struct
from typing import Any

import pytest
import torch

from maas.common.v1 import tensor_pb2
from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1.generation_service_pb2_grpc import (
    GenerationServiceStub as Stub,
)
from services.generation.__main__ import build
from services.generation.settings import GenerationSettings
from services.runtime.store.store import ModelStore
from tests.harness import running
from tests.service.generation import (
    CONTEXT,
    TEXT,
    Ask,
    free,
    joined,
    net,
    words,
)


async def test_greedy_text_is_the_models_own(stub: Stub) -> None:
    reply = await stub.Generate(Ask(text=TEXT, stopping=free()))
    model, ids = net(), words().encode_ids(TEXT)
    for _ in range(24):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    (found,) = reply.completions
    prompt = len(words().encode_ids(TEXT))
    assert list(found.token_ids) == ids[prompt:]
    assert found.text == words().decode(ids[prompt:])
    assert found.finish_reason == pb.FINISH_REASON_LENGTH
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (prompt, 24)
    assert reply.served_by.model == "tiny" and reply.served_by.digest.startswith("sha256:")
    assert reply.timing.compute_ms > 0 and reply.timing.batch_size == 1 and reply.seed == 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("interval", [1, 5])
async def test_a_stream_joins_to_the_unary_answer(stub: Stub, seed: int, interval: int) -> None:
    request = Ask(
        text=TEXT,
        sampling=pb.Sampling(temperature=2.0, seed=seed, n=3),
        stopping=free(40, stop=["e", "the"]),
        output=pb.Output(logprobs=1, echo=seed % 2 == 0, stream_interval_tokens=interval),
    )
    unary = await stub.Generate(request)
    messages, whole = await joined(stub, request)
    for expected in unary.completions:
        found = whole[expected.index]
        found.cumulative_logprob = expected.cumulative_logprob
        assert found == expected
    assert [message.sequence_number for message in messages] == list(range(1, len(messages) + 1))
    assert messages[0].seed == seed and messages[0].served_by == unary.served_by and messages[0].stream_id
    assert messages[-1].usage.completion_tokens == unary.usage.completion_tokens
    assert not any(message.HasField("usage") for message in messages[:-1])
    assert all(len(message.token_ids) >= interval for message in messages if not message.finish_reason)


async def test_chat_is_the_template_and_ids_are_taken_as_they_are(stub: Stub) -> None:
    chat = await stub.Generate(
        Ask(chat=pb.Chat(messages=[pb.Message(role="user", content="hi")]), stopping=free())
    )
    ids = words().encode_ids("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")
    for given in (tensor_pb2.TokenIds(values=ids), tensor_pb2.TokenIds(packed=struct.pack(f"<{len(ids)}I", *ids))):
        same = await stub.Generate(Ask(token_ids=given, stopping=free()))
        assert same.completions == chat.completions


async def test_truncation_keeps_the_end(stub: Stub) -> None:
    ids = words().encode_ids(TEXT)
    cut = await stub.Generate(
        Ask(text=TEXT, truncate_prompt_tokens=5, stopping=free(), output=pb.Output(echo=True))
    )
    last = await stub.Generate(Ask(token_ids=tensor_pb2.TokenIds(values=ids[-5:]), stopping=free()))
    assert cut.usage.prompt_tokens == 5
    assert cut.completions[0].text == words().decode(ids[-5:]) + last.completions[0].text


async def test_max_tokens_is_clipped_to_the_context(stub: Stub) -> None:
    reply = await stub.Generate(Ask(text=TEXT, stopping=pb.Stopping(max_tokens=10_000, ignore_eos=True)))
    assert reply.usage.prompt_tokens + reply.usage.completion_tokens == CONTEXT
    assert reply.completions[0].finish_reason == pb.FINISH_REASON_LENGTH


async def test_the_prefix_cache_is_counted_and_salted(stub: Stub) -> None:
    async def cached(**fields: Any) -> int:
        reply = await stub.Generate(Ask(text=TEXT * 9, stopping=free(2), **fields))
        return reply.usage.cached_prompt_tokens

    assert await cached() == 0
    assert await cached() == len(words().encode_ids(TEXT * 9)) // 32 * 32
    assert await cached(cache_salt="mine") == 0


async def test_requests_at_once_get_their_own_answers(stub: Stub) -> None:
    requests = [
        Ask(
            text=TEXT[: 3 + 2 * place],
            sampling=pb.Sampling(temperature=place % 3, seed=place),
            stopping=free(10 + place),
        )
        for place in range(12)
    ]
    one_by_one = [(await stub.Generate(request)).completions for request in requests]
    together = await asyncio.gather(*(stub.Generate(request) for request in requests))
    assert [reply.completions for reply in together] == one_by_one
    assert max(reply.timing.batch_size for reply in together) > 1


@pytest.mark.models
async def test_smollm2_knows_the_capital_of_france(model_store: ModelStore) -> None:
    chat = pb.Chat(messages=[pb.Message(role="user", content="What is the capital of France?")])
    settings = GenerationSettings(store=model_store.root, port=0, metrics_port=0, lame_duck_s=0, kv_cache_mib=64)
    async with running(settings, build) as (channel, _):
        stub = Stub(channel)
        (found,) = (await stub.Generate(Ask(chat=chat))).completions
        _, whole = await joined(stub, Ask(chat=chat))
    assert (found.text, found.finish_reason) == ("The capital of France is Paris.", pb.FINISH_REASON_EOS)
    assert whole[0].text == found.text
