"""What differs where vLLM generates: what it does not take, and its processes that may die."""

import asyncio
import os
import signal

import grpc
import pytest
from grpc import aio

from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1.generation_service_pb2_grpc import (
    GenerationServiceStub as Stub,
)
from services.generation.settings import GenerationSettings
from services.runtime.channels import open_channel
from services.runtime.store.store import ModelStore
from tests.service.generation import TEXT, Ask, free, joined, refusal, streamed
from tests.service.vllm_server import ON_VLLM, VLLMServed, vllm_serving

pytestmark = ON_VLLM


@pytest.mark.parametrize(("name", "value"), [("typical_p", 0.5), ("bad_words", ["a"])])
async def test_what_it_does_not_declare_is_refused_by_name(vllm_stub: Stub, name: str, value: object) -> None:
    request = Ask(text=TEXT, sampling=pb.Sampling(**{name: value}))
    for call in (vllm_stub.Generate(request), vllm_stub.GenerateStream(streamed(request)).read()):
        code, _, text = await refusal(call)
        assert code is grpc.StatusCode.UNIMPLEMENTED and f"sampling.{name}" in text


@pytest.mark.parametrize("temperature", [0.001, 2.5])
async def test_temperatures_it_would_change_are_refused(vllm_stub: Stub, temperature: float) -> None:
    call = vllm_stub.Generate(Ask(text=TEXT, sampling=pb.Sampling(temperature=temperature)))
    code, fields, text = await refusal(call)
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["sampling.temperature"]) and "0.01 to 2" in text


async def idle(served: VLLMServed) -> float:
    """Waits until the engine has nothing to do; its passes then."""
    async with asyncio.timeout(20):
        while served.engine.get_num_unfinished_requests():
            await asyncio.sleep(0.01)
    return served.passes()


async def test_a_caller_who_leaves_ends_the_compute(vllm_served: VLLMServed, vllm_stub: Stub) -> None:
    before = await idle(vllm_served)
    call = vllm_stub.GenerateStream(streamed(Ask(text=TEXT, stopping=free(180))))
    for _ in range(3):
        await call.read()
    call.cancel()
    assert 3 <= await idle(vllm_served) - before < 100


async def test_a_stop_string_ends_the_compute(vllm_served: VLLMServed, vllm_stub: Stub) -> None:
    whole = await vllm_stub.Generate(Ask(text=TEXT, stopping=free(180)))
    before = await idle(vllm_served)
    stop = whole.completions[0].text[:3]
    reply = await vllm_stub.Generate(Ask(text=TEXT, stopping=free(180, stop=[stop])))
    assert reply.completions[0].stop_match.text == stop
    assert await idle(vllm_served) - before < 100


async def test_the_deadline_ends_the_compute(vllm_served: VLLMServed, vllm_stub: Stub) -> None:
    before = await idle(vllm_served)
    codes = [(await refusal(vllm_stub.Generate(Ask(text=TEXT, stopping=free(180)), timeout=0.1)))[0]]
    assert codes == [grpc.StatusCode.DEADLINE_EXCEEDED]
    assert await idle(vllm_served) - before < 150


async def test_priorities_reach_the_scheduler(vllm_served: VLLMServed, vllm_stub: Stub) -> None:
    """Seventeen in sixteen seats: of those that wait, the urgent one is first."""
    ended: list[str] = []

    async def run(name: str, tokens: int, priority: int) -> None:
        await vllm_stub.Generate(Ask(text=TEXT, stopping=free(tokens), priority=priority))
        ended.append(name)

    crowd = [asyncio.create_task(run("crowd", 60, 0)) for _ in range(16)]
    async with asyncio.timeout(20):
        while vllm_served.engine.get_num_unfinished_requests() < 16:
            await asyncio.sleep(0.01)
    late = [asyncio.create_task(run("late", 100, 0)) for _ in range(16)]
    urgent = asyncio.create_task(run("urgent", 100, 9))
    await asyncio.gather(*crowd, *late, urgent)
    assert ended.index("urgent") < ended.index("late")


async def test_a_dead_engine_is_unavailable_and_comes_back(vllm_served: VLLMServed, vllm_stub: Stub) -> None:
    request = Ask(text=TEXT, stopping=free(20))
    whole = await vllm_stub.Generate(request)
    calls = [vllm_stub.Generate(Ask(text=TEXT, stopping=free(180))) for _ in range(4)]
    call = vllm_stub.GenerateStream(streamed(Ask(text=TEXT, stopping=free(180))))
    await call.read()
    (process,) = vllm_served.engine.engine_core.resources.engine_manager.processes
    os.kill(process.pid, signal.SIGKILL)
    codes = [(await refusal(one))[0] for one in (*calls, read_all(call), vllm_stub.Generate(request))]
    assert codes == [grpc.StatusCode.UNAVAILABLE] * 6
    async with asyncio.timeout(300):
        while True:
            try:
                again = await vllm_stub.Generate(request)
                break
            except aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                await asyncio.sleep(0.2)
    assert again.completions == whole.completions


async def read_all(call: aio.UnaryStreamCall) -> None:
    while await call.read() is not aio.EOF:
        pass


@pytest.mark.models
async def test_smollm2_knows_the_capital_of_france(model_store: ModelStore) -> None:
    how = {"backend": "vllm", "vllm_eager": True, "vllm_dtype": "float32", "vllm_context": 512, "kv_cache_mib": 64}
    settings = GenerationSettings(store=model_store.root, port=0, metrics_port=0, lame_duck_s=0, **how)
    chat = pb.Chat(messages=[pb.Message(role="user", content="What is the capital of France?")])
    with vllm_serving(settings) as served:
        async with open_channel(f"127.0.0.1:{served.port}", retry=False) as channel:
            (found,) = (await Stub(channel).Generate(Ask(chat=chat))).completions
            _, whole = await joined(Stub(channel), Ask(chat=chat))
    assert (found.text, found.finish_reason) == ("The capital of France is Paris.", pb.FINISH_REASON_EOS)
    assert whole[0].text == found.text
