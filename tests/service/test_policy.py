"""Who may call what, through a real gateway and a real service: every method, every model, and what is noted."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import tomli_w
from grpc import aio

from gateway.__main__ import build
from maas.gateway.v1 import gateway_service_pb2 as gateway_pb
from maas.gateway.v1 import gateway_service_pb2_grpc as gateway_grpc
from maas.sequence.v1 import sequence_service_pb2 as sequence_pb
from maas.sequence.v1 import sequence_service_pb2_grpc as sequence_grpc
from maas.vision.v1 import vision_service_pb2 as vision_pb
from maas.vision.v1 import vision_service_pb2_grpc as vision_grpc
from services.runtime.floor import Floor
from services.runtime.identity import keys
from services.runtime.identity.caller import Caller
from services.runtime.identity.mesh import Mesh
from services.runtime.identity.policy import ADMINISTRATIVE
from tests.harness import running
from tests.suite.gateway_fakes import Behind, Running, behind, settings, started

POLICY = """
[[allow]]
roles = ["reader"]
methods = ["maas.vision.v1.VisionService/*", "maas.gateway.v1.GatewayService/FanOut", "*/RunSession"]
models = ["lite"]

[[allow]]
roles = ["operator"]
administration = true

[[allow]]
roles = ["oncall"]
methods = ["*/FanOut"]

[[allow]]
roles = ["oncall"]
methods = ["maas.vision.*"]
priorities = ["critical"]

[[allow]]
roles = ["teller"]
methods = ["maas.generation.*", "maas.vision.*", "maas.tokenization.*", "inference.*"]
models = ["base", "pirate", "lite"]

[[allow]]
roles = ["caller"]
methods = ["maas.gateway.*", "maas.vision.*"]
models = ["lite"]
"""
OPEN = ("/grpc.health.v1.Health/", "/grpc.reflection.", "/grpc.channelz.")
Metadata = tuple[tuple[str, str], ...]


class Guarded:
    """A gateway with a policy, and the keys of a reader, of one without a role, and of an operator."""

    def __init__(self, channel: aio.Channel, floor: Floor[Any], policy: Path, given: dict[str, Metadata]) -> None:
        self.channel, self.floor, self.policy, self.given = channel, floor, policy, given

    def methods(self) -> dict[str, grpc.RpcMethodHandler]:
        found: dict[str, grpc.RpcMethodHandler] = self.floor._handlers
        return {path: handler for path, handler in found.items() if not path.startswith(OPEN)}


@asynccontextmanager
async def guarded(folder: Path, *services: Behind) -> AsyncIterator[Guarded]:
    made = {name: keys.new("acme", name, roles, None) for name, roles in ROLES.items()}
    listed, policy = folder / "keys.toml", folder / "policy.toml"
    listed.write_text(tomli_w.dumps({"keys": [entry for _, entry in made.values()]}))
    policy.write_text(POLICY)
    more = {"api_keys_file": str(listed), "policy_file": str(policy), "mesh_key": "ab" * 32, "store_poll_s": 0.02}
    async with started(*services) as found:
        addresses = {service.area: one.address for service, one in zip(services, found, strict=True)}
        for one in found:
            believe(one)
        async with running(settings(addresses, **more), build) as (channel, floor):
            given = {name: (("x-api-key", key),) for name, (key, _) in made.items()}
            yield Guarded(channel, floor, policy, {**given, "nobody": ()})


def believe(service: Running) -> None:
    """Has a fake service take the gateway's word."""
    service.floor.doorkeeper._mesh = Mesh([bytes.fromhex("ab" * 32)])


ROLES: dict[str, list[str]] = {
    "reader": ["reader"],
    "other": ["stranger"],
    "operator": ["operator"],
    "oncall": ["oncall"],
    "teller": ["teller"],
    "caller": ["caller"],
}


async def code_of(channel: aio.Channel, path: str, handler: Any, metadata: Metadata, body: bytes = b"") -> str:
    """How a call of any shape ends."""
    call = channel.stream_stream(path)(iter([body]), metadata=metadata, timeout=10)
    try:
        async for _ in call:
            break
        call.cancel()
    except aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"


async def test_every_method_is_closed_to_who_shows_nothing_or_has_no_role(tmp_path: Path) -> None:
    async with guarded(tmp_path, behind("vision")) as at:
        methods = at.methods()
        assert len(methods) > 40
        assert methods.keys() >= ADMINISTRATIVE
        for path, handler in methods.items():
            for body in (b"", b"\xff\xff"):
                assert await code_of(at.channel, path, handler, (), body) == "UNAUTHENTICATED", path
                assert await code_of(at.channel, path, handler, at.given["other"], body) == "PERMISSION_DENIED", (
                    path
                )


async def test_a_reader_reads_and_administers_nothing(tmp_path: Path) -> None:
    async with guarded(tmp_path, behind("vision")) as at:
        for path in ADMINISTRATIVE:
            assert await code_of(at.channel, path, None, at.given["reader"]) == "PERMISSION_DENIED", path
        flushed = gateway_grpc.GatewayServiceStub(at.channel).FlushCache
        await flushed(gateway_pb.FlushCacheRequest(all=True), metadata=at.given["operator"])


async def test_models_are_judged_in_messages_read_and_unread(tmp_path: Path) -> None:
    async with guarded(tmp_path, behind("vision"), behind("sequence")) as at:
        classify = vision_grpc.VisionServiceStub(at.channel).Classify
        image = {"encoded": b"12345"}
        for _ in range(2):  # the second from memory
            reply = await classify(
                vision_pb.ClassifyRequest(model="lite", images=[image]), metadata=at.given["reader"]
            )
            assert reply.results[0].labels[0].index == 5
            for model in ("mnist", ""):
                with pytest.raises(aio.AioRpcError) as error:
                    await classify(
                        vision_pb.ClassifyRequest(model=model, images=[image]), metadata=at.given["reader"]
                    )
                assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
                assert "'lite'" in str(error.value.details())
        session = sequence_grpc.SequenceServiceStub(at.channel).RunSession
        asked = [sequence_pb.RunSessionRequest(open={"model": "secret"})]
        with pytest.raises(aio.AioRpcError) as error:
            [one async for one in session(iter(asked), metadata=at.given["reader"])]
        assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_call_inside_a_fan_out_is_judged_by_itself(tmp_path: Path) -> None:
    async with guarded(tmp_path, behind("vision"), behind("tokenization")) as at:
        calls = [
            {"id": "yes", "classify_image": {"model": "lite", "images": [{"encoded": b"123"}]}},
            {"id": "model", "classify_image": {"model": "mnist", "images": [{"encoded": b"123"}]}},
            {"id": "method", "tokenize": {"texts": ["a"]}},
        ]
        fan_out = gateway_grpc.GatewayServiceStub(at.channel).FanOut
        reply = await fan_out(gateway_pb.FanOutRequest(calls=calls), metadata=at.given["reader"])
        codes = {result.id: result.status.code for result in reply.results}
        assert codes == {"yes": 0, "model": 7, "method": 7}


async def test_a_claimed_class_is_lowered_unless_a_role_gives_it(tmp_path: Path) -> None:
    vision = behind("vision")
    async with guarded(tmp_path, vision) as at:
        gate = at.floor.metrics.backend_lowered.labels("vision")
        classify, told = vision_grpc.VisionServiceStub(at.channel).Classify, {}
        request = vision_pb.ClassifyRequest(model="lite", images=[{"encoded": b"12345"}])
        for name in ("reader", "oncall"):
            claimed = (("x-maas-priority", "critical"), ("cache-control", "no-store"), *at.given[name])
            call = classify(request, metadata=claimed)
            assert (await call).results
            told[name] = dict(await call.trailing_metadata()).get("x-maas-priority")
        assert told == {"reader": "default", "oncall": None}
        inside = gateway_pb.FanOutRequest(calls=[{"id": "one", "classify_image": request}])
        fan_out = gateway_grpc.GatewayServiceStub(at.channel).FanOut
        for name in ("reader", "oncall"):
            reply = await fan_out(inside, metadata=(("cache-control", "no-store"), *at.given[name]))
            assert reply.results[0].status.code == 0
        passed_on = [one.get("x-maas-priority") for one in vision.metadata]
        assert passed_on == ["default", None] * 2, "what the service computes next goes by the policy too"
        async with asyncio.timeout(5):
            while not gate._value.get():
                await asyncio.sleep(0.05)
        assert gate._value.get() == 1


async def test_a_changed_policy_is_taken_without_a_restart(tmp_path: Path) -> None:
    async with guarded(tmp_path, behind("vision")) as at:
        path = "/maas.gateway.v1.GatewayService/GetStatus"
        assert await code_of(at.channel, path, None, at.given["other"]) == "PERMISSION_DENIED"
        at.policy.write_text(POLICY + '[[allow]]\nroles = ["stranger"]\nmethods = ["*/GetStatus"]\n')
        async with asyncio.timeout(5):
            while await code_of(at.channel, path, None, at.given["other"]) != "OK":
                await asyncio.sleep(0.02)


async def test_who_was_turned_away_and_who_administered_is_noted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="maas.audit")
    async with guarded(tmp_path, behind("vision")) as at:
        await code_of(at.channel, "/maas.vision.v1.VisionService/Classify", None, at.given["other"])
        flush = "/maas.gateway.v1.GatewayService/FlushCache"
        await code_of(
            at.channel,
            flush,
            None,
            at.given["operator"],
            gateway_pb.FlushCacheRequest(all=True).SerializeToString(),
        )
        await code_of(at.channel, "/maas.gateway.v1.GatewayService/GetStatus", None, at.given["operator"])
    noted = [record for record in caplog.records if record.name == "maas.audit"]
    told = [(one.message, one.__dict__["method"], one.__dict__["caller"], one.__dict__["roles"]) for one in noted]
    assert told == [
        ("PERMISSION_DENIED", "/maas.vision.v1.VisionService/Classify", "other", ["stranger"]),
        ("OK", flush, "operator", ["operator"]),
    ]
    assert not any(key in caplog.text for metadata in at.given.values() for _, key in metadata)


async def test_who_is_turned_away_inside_a_call_of_many_is_noted_part_by_part(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="maas.audit")
    image, tokenize = [{"encoded": b"123"}], {"tokenize": {"texts": ["a"]}}
    parts = {"yes": {"classify_image": {"model": "lite", "images": image}}, "method": tokenize}
    parts["model"] = {"classify_image": {"model": "mnist", "images": image}}
    calls = [{"id": name, **part} for name, part in parts.items()]
    steps = {"values": [{"name": name, "request": part} for name, part in parts.items()]}
    async with guarded(tmp_path, behind("vision"), behind("tokenization")) as at:
        asked = {
            "FanOut": gateway_pb.FanOutRequest(calls=calls),
            "FanOutStream": gateway_pb.FanOutStreamRequest(calls=calls),
            "RunPipeline": gateway_pb.RunPipelineRequest(steps=steps),
            "RunPipelineStream": gateway_pb.RunPipelineStreamRequest(steps=steps),
        }
        stub = gateway_grpc.GatewayServiceStub(at.channel)
        for name, request in asked.items():
            caplog.clear()
            call = getattr(stub, name)(request, metadata=at.given["caller"])
            assert [one async for one in call] if name.endswith("Stream") else await call
            told = [record.__dict__ for record in caplog.records if record.name == "maas.audit"]
            who = [(one["msg"], one["caller"], one["tenant"], one["roles"], one["peer"][:9]) for one in told]
            assert who == [("PERMISSION_DENIED", "caller", "acme", ["caller"], "ipv4:127.")] * 2, name
            assert {one["method"] for one in told} == {
                "/maas.tokenization.v1.TokenizationService/Tokenize",
                "/maas.vision.v1.VisionService/Classify",
            }


@asynccontextmanager
async def seen_from_elsewhere(**more: Any) -> AsyncIterator[aio.Channel]:
    """A channel to a server without a policy that sees another address than loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only chooses the address to send from
        except OSError:
            pytest.skip("this machine has no address but loopback")
        own = probe.getsockname()[0]
    floor = Floor(settings({}, **more).model_copy(update={"host": "0.0.0.0", "plaintext": True}))
    await build(floor)
    port = await floor.start()
    try:
        async with aio.insecure_channel(f"{own}:{port}") as channel:
            yield channel
    finally:
        await floor.close()


async def test_without_a_policy_other_machines_administer_nothing() -> None:
    async with seen_from_elsewhere() as channel:
        for path in ADMINISTRATIVE:
            assert await code_of(channel, path, None, ()) == "PERMISSION_DENIED", path


async def test_what_the_gateway_let_in_administers_a_service_on_another_machine() -> None:
    key = "ab" * 32
    vouched = Mesh([bytes.fromhex(key)]).vouch(Caller(tenant="acme")).vouching
    async with seen_from_elsewhere(mesh_key=key) as channel:
        for path in ADMINISTRATIVE:
            assert await code_of(channel, path, None, ()) == "PERMISSION_DENIED", path
            assert await code_of(channel, path, None, vouched) not in ("PERMISSION_DENIED", "UNAUTHENTICATED"), (
                path
            )
