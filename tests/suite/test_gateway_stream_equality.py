"""What streams and unary calls of one generation say, computed or remembered, in either order: the same bits."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch
from grpc import aio

from gateway.__main__ import build
from maas.generation.v1 import generation_service_pb2 as service_pb
from maas.generation.v1.generation_service_pb2_grpc import GenerationServiceStub as Stub
from services.generation.__main__ import build as build_service
from services.generation.settings import GenerationSettings
from services.runtime.store.store import ModelStore
from tests.harness import running
from tests.service.generation import NAMED, TEXT, Ask, free, publish, streamed
from tests.service.streams import whole
from tests.service.test_generation_adapters import publish_adapter
from tests.suite.conftest import free_ports
from tests.suite.gateway_fakes import outcome, settings

WARM = {"temperature": 1.5, "seed": 7}
ASKED = {
    "greedy": Ask(text=TEXT, stopping=free(20)),
    "seeded": Ask(text=TEXT, sampling=WARM, stopping=free(20)),
    "ends by itself": Ask(text=TEXT, sampling={"logit_bias": {2: 100.0}}, stopping={"max_tokens": 5}),
    "several": Ask(text=TEXT, sampling=WARM | {"n": 3, "frequency_penalty": 0.5}, stopping=free(20)),
    "best of as many": Ask(text=TEXT, sampling=WARM | {"n": 2, "best_of": 2}, stopping=free(9)),
    "beams": Ask(text=TEXT, sampling={"num_beams": 3, "n": 2}, stopping=free(9), output={"logprobs": 2}),
    "stops": Ask(text=TEXT, sampling=WARM, stopping=free(40, stop=["e", "the"], include_stop=True)),
    "stop token": Ask(text=TEXT, sampling=WARM, stopping=free(40, stop_token_ids=list(range(60)))),
    "log probabilities": Ask(text=TEXT, stopping=free(9), output={"logprobs": 2, "prompt_logprobs": 1}),
    "echo": Ask(text=TEXT, stopping=free(9), output={"echo": True, "skip_special_tokens": False}),
    "intervals": Ask(text=TEXT, stopping=free(20), output={"stream_interval_tokens": 7}),
    "constraint": Ask(text=TEXT, constraint={"regex": "[ab]{3,9}"}, stopping={"max_tokens": 20}),
    "choice": Ask(text=TEXT, constraint={"choice": {"values": ["yes", "no"]}}, sampling=WARM),
    "chat": Ask(chat={"messages": [{"role": "user", "content": "hi"}]}, stopping=free(9)),
    "ids": Ask(token_ids={"values": [1, 2, 3, 4]}, truncate_prompt_tokens=3, stopping=free(9)),
    "adapter": Ask(text=TEXT, adapter="red", stopping=free(9)),
    "salted": Ask(text=TEXT, cache_salt="s", sampling={"bad_words": ["ab"]}, stopping=free(9)),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    torch.set_num_threads(1)
    made = ModelStore(Path(tmp_path_factory.mktemp("store")))
    publish(made, "tiny", **NAMED)
    publish_adapter(made, "red", 0)
    return made


@pytest.fixture
async def doors(store: ModelStore) -> AsyncIterator[tuple[Stub, Stub]]:
    """The service, and a gateway in front of it."""
    (port,) = free_ports(1)
    ports = {"port": port, "metrics_port": 0, "lame_duck_s": 0, "drain_s": 5}
    service = GenerationSettings(store=store.root, generate_model="tiny", kv_cache_mib=16, **ports)
    front = settings({"generation": f"127.0.0.1:{port}"})
    async with running(service, build_service) as (direct, _), running(front, build) as (channel, _):
        yield Stub(direct), Stub(channel)


async def read(call: Any) -> tuple[str, list[service_pb.GenerateStreamResponse]]:
    found = [message async for message in call]
    return dict(await call.initial_metadata())["x-maas-cache"], found


def told(messages: list[service_pb.GenerateStreamResponse]) -> service_pb.GenerateResponse:
    """What a stream says, as the unary call says it; how it was computed aside."""
    found = whole(messages)
    reply = service_pb.GenerateResponse(
        completions=[found[index] for index in sorted(found)],
        usage=messages[-1].usage,
        seed=messages[0].seed,
        prompt_logprobs=messages[0].prompt_logprobs,
        served_by=messages[0].served_by,
    )
    return unary(reply)


def unary(reply: service_pb.GenerateResponse) -> service_pb.GenerateResponse:
    reply.ClearField("timing")
    reply.usage.ClearField("cached_prompt_tokens")
    return reply


async def test_in_either_order_both_say_what_the_service_says(doors: tuple[Stub, Stub]) -> None:
    direct, front = doors
    afresh = aio.Metadata(("cache-control", "no-cache"))
    for name, request in ASKED.items():
        expected = unary(await direct.Generate(request))
        for order in ("stream first", "unary first"):
            if order == "stream first":
                first, messages = await read(front.GenerateStream(streamed(request), metadata=afresh))
                then, reply = await outcome(front.Generate(request))
            else:
                first, reply = await outcome(front.Generate(request, metadata=afresh))
                then, messages = await read(front.GenerateStream(streamed(request)))
                assert len(messages) == len(reply.completions)
            assert (first, then) == ("miss", "hit-l1"), (name, order)
            assert unary(reply) == expected and told(messages) == expected, (name, order)
