"""How generation ends early: cancelled, failed, refused for lack of room, out of time."""

import asyncio

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from maas.generation.v1 import generation_pb2 as pb
from services.runtime.status import status_of
from tests.service.generation import (
    TEXT,
    Ask,
    Served,
    free,
    idle,
    refusal,
    streamed,
)


async def test_a_cancelled_stream_stops_the_engine(served: Served) -> None:
    await idle(served.engine)
    call = served.stub.GenerateStream(streamed(Ask(text=TEXT, stopping=free(150))))
    for _ in range(3):
        await call.read()
    call.cancel()
    steps = await idle(served.engine)
    assert steps < 150
    assert served.engine.scheduler.pool.available == served.engine.scheduler.pool.usable
    await served.stub.Generate(Ask(text=TEXT, stopping=free(1)))
    assert served.engine.steps == steps + 1


async def test_a_cancelled_unary_call_stops_the_engine(served: Served) -> None:
    before = await idle(served.engine)
    call = served.stub.Generate(Ask(text=TEXT, stopping=free(150)))
    async with asyncio.timeout(10):
        while served.engine.steps < before + 3:
            await asyncio.sleep(0)
    call.cancel()
    assert await idle(served.engine) < before + 150


async def test_a_failed_step_is_internal_and_the_next_request_works(served: Served) -> None:
    runner = served.engine.runner
    served.engine.runner = None  # type: ignore[assignment]
    code, _, text = await refusal(served.stub.Generate(Ask(text=TEXT)))
    served.engine.runner = runner
    assert code is grpc.StatusCode.INTERNAL and "runner" not in text and "NoneType" not in text
    assert (await served.stub.Generate(Ask(text=TEXT, stopping=free(3)))).usage.completion_tokens == 3


@pytest.mark.parametrize("overrides", [{"store_poll_s": 0.2}])
async def test_an_engine_that_broke_down_is_told_by_health_and_made_anew(served: Served) -> None:
    def broken(*told: object) -> object:
        raise RuntimeError("broken")

    health, serving = health_pb2_grpc.HealthStub(served.channel), health_pb2.HealthCheckResponse.SERVING
    watch = health.Watch(health_pb2.HealthCheckRequest(service="maas.model/tiny"))
    assert (await watch.read()).status == serving
    before, engine = served.model, served.engine
    engine.fail = engine.runner.run = broken  # type: ignore[assignment, method-assign]
    code, _, text = await refusal(served.stub.Generate(Ask(text=TEXT)))
    assert code is grpc.StatusCode.UNAVAILABLE and "broke down" in text
    assert [(await watch.read()).status == serving for _ in range(2)] == [False, True]
    assert served.model is not before
    assert (await served.stub.Generate(Ask(text=TEXT, stopping=free(3)))).usage.completion_tokens == 3


@pytest.mark.parametrize("overrides", [{"batch_sequences": 1, "queue_limit": 3}])
async def test_a_full_queue_says_when_to_come_back(served: Served) -> None:
    with pytest.raises(aio.AioRpcError) as error:
        await served.stub.Generate(Ask(text=TEXT, sampling=pb.Sampling(n=5)))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    kinds = [detail.TypeName() for detail in status_of(error.value).details]
    assert "google.rpc.RetryInfo" in kinds
    reply = await served.stub.Generate(Ask(text=TEXT, sampling=pb.Sampling(n=4), stopping=free(3)))
    assert len(reply.completions) == 4 and reply.timing.batch_size == 1


async def test_the_deadline_ends_the_compute(served: Served) -> None:
    before = await idle(served.engine)
    requests = [Ask(text=TEXT, stopping=free(180)) for _ in range(4)]
    calls = [served.stub.Generate(request, timeout=0.05) for request in requests]
    codes = [(await refusal(call))[0] for call in calls]
    assert codes == [grpc.StatusCode.DEADLINE_EXCEEDED] * 4
    assert await idle(served.engine) < before + 150
