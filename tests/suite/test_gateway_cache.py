"""The cache over the wire: what is remembered, under which model, and by which words of the caller."""

from typing import Any

import grpc
import pytest
from grpc import aio

from gateway.__main__ import build
from maas.generation.v1 import generation_service_pb2, generation_service_pb2_grpc
from services.runtime.errors import InvalidInput, Unavailable
from services.runtime.unread import Unread
from tests.harness import running
from tests.suite.cache_asks import classify, generated, picture, rendered_chat, status, until
from tests.suite.gateway_fakes import behind, gateway, model, outcome, settings, started


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


async def test_answers_are_served_while_the_service_is_away():
    service = behind("vision")
    async with gateway(service) as (channel, found):
        await classify(channel)
        await found[0].kill()
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
