"""Who calls, through a real server: keys, tokens, certificates, the gateway's word; who needs to say nothing."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import tomli_w
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from maas.tokenization.v1 import tokenization_service_pb2 as pb
from maas.tokenization.v1 import tokenization_service_pb2_grpc as pb_grpc
from services.runtime import context
from services.runtime.door import Door
from services.runtime.floor import Floor
from services.runtime.identity import keys
from services.runtime.identity.caller import Caller
from services.runtime.identity.mesh import Mesh
from services.runtime.registrar import Registrar
from services.runtime.settings import ServerSettings
from tests.harness import running
from tests.service.certificates import Authority
from tests.unit.runtime.identity.tokens import AUDIENCE, ISSUER, entry, jwks, token

MESH = bytes(range(32))
Metadata = tuple[tuple[str, str], ...]


class Who(pb_grpc.TokenizationServiceServicer):
    """Answers with the caller as the floor knows it."""

    async def Tokenize(self, request: pb.TokenizeRequest, call: aio.ServicerContext) -> pb.TokenizeResponse:
        return pb.TokenizeResponse(tokenizer_digest=_told())

    async def DetokenizeStream(
        self, requests: AsyncIterator[Any], call: aio.ServicerContext
    ) -> AsyncIterator[pb.DetokenizeStreamResponse]:
        async for _ in requests:
            yield pb.DetokenizeStreamResponse(text_delta=_told())


def _told() -> str:
    caller = context.current().caller
    return json.dumps([caller.name, caller.tenant, sorted(caller.roles), context.current().tenant])


async def build(floor: Floor[ServerSettings]) -> None:
    floor.add(pb_grpc.add_TokenizationServiceServicer_to_server, Who())


def settings(**more: Any) -> ServerSettings:
    return ServerSettings(port=0, lame_duck_s=0, drain_s=0.2, store_poll_s=0.02, **more)


async def who(channel: aio.Channel, *metadata: tuple[str, str]) -> list[Any]:
    """Name, tenant, roles."""
    call = pb_grpc.TokenizationServiceStub(channel).Tokenize
    found = json.loads((await call(pb.TokenizeRequest(texts=["a"]), metadata=metadata)).tokenizer_digest)
    assert found.pop() == found[1]
    return found


async def refusal(channel: aio.Channel, *metadata: tuple[str, str]) -> str:
    with pytest.raises(aio.AioRpcError) as error:
        await who(channel, *metadata)
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert not any(value and value in str(error.value) for name, value in metadata if name != "x-maas-tenant")
    return str(error.value.details())


@pytest.fixture
def listed(tmp_path: Path) -> tuple[Path, str]:
    """A file of one key, and the key."""
    key, table = keys.new("acme", "ci", ["reader"], None)
    path = tmp_path / "keys.toml"
    path.write_text(tomli_w.dumps({"keys": [table]}))
    return path, key


async def test_without_a_source_nobody_is_asked() -> None:
    async with running(settings(), build) as (channel, _):
        assert await who(channel) == ["", "", []]
        assert await who(channel, ("authorization", "Bearer whatever"), ("x-api-key", "x")) == ["", "", []]


async def test_an_api_key_in_both_headers(listed: tuple[Path, str]) -> None:
    path, key = listed
    async with running(settings(api_keys_file=str(path)), build) as (channel, _):
        for header in (("authorization", f"Bearer {key}"), ("authorization", f"bearer {key}"), ("x-api-key", key)):
            assert await who(channel, header) == ["ci", "acme", ["reader"]]


async def test_streams_too(listed: tuple[Path, str]) -> None:
    path, key = listed
    async with running(settings(api_keys_file=str(path)), build) as (channel, _):
        stub = pb_grpc.TokenizationServiceStub(channel)
        asked = [pb.DetokenizeStreamRequest(ids=[1])]
        found = [
            one.text_delta async for one in stub.DetokenizeStream(iter(asked), metadata=(("x-api-key", key),))
        ]
        assert [json.loads(text)[1] for text in found] == ["acme"]
        with pytest.raises(aio.AioRpcError) as error:
            [one async for one in stub.DetokenizeStream(iter(asked))]
        assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_missing_and_bad_credentials_say_the_way_out(
    listed: tuple[Path, str], caplog: pytest.LogCaptureFixture
) -> None:
    path, key = listed
    caplog.set_level(logging.DEBUG)
    async with running(settings(api_keys_file=str(path)), build) as (channel, _):
        assert "authorization: Bearer" in await refusal(channel)
        assert "authorization: Bearer" in await refusal(channel, ("authorization", "Basic YTpi"))
        assert "not known" in await refusal(channel, ("x-api-key", key[:-4] + "AAAA"))
        assert "not known" in await refusal(channel, ("authorization", f"Bearer {token()}"))
    assert key[:-4] not in caplog.text and "YTpi" not in caplog.text


async def test_a_key_is_taken_and_refused_as_the_file_changes(tmp_path: Path, listed: tuple[Path, str]) -> None:
    path, first = listed
    second, table = keys.new("umbrella", "b", [], None)
    late, expired = keys.new("acme", "c", [], datetime.now(UTC) - timedelta(seconds=1))
    async with running(settings(api_keys_file=str(path)), build) as (channel, floor):
        path.write_text(tomli_w.dumps({"keys": [table, expired]}))
        await told(floor, lambda: second[5:17] in listing(floor).keys)
        assert (await who(channel, ("x-api-key", second)))[1] == "umbrella"
        assert "not known" in await refusal(channel, ("x-api-key", first))
        assert "expired" in await refusal(channel, ("x-api-key", late))
        # Neither a file that says nothing right, nor one that is empty as while it is written.
        for bad in ("keys = [", ""):
            path.write_text(bad)
            await asyncio.sleep(0.1)
            assert (await who(channel, ("x-api-key", second)))[1] == "umbrella"


def listing(floor: Floor[ServerSettings]) -> keys.Listed:
    return floor.doorkeeper.files[0].value


async def told(floor: Floor[ServerSettings], done: Any) -> None:
    async with asyncio.timeout(5):
        while not done():
            await asyncio.sleep(0.01)


async def test_tokens_and_the_rotation_of_their_keys(tmp_path: Path, listed: tuple[Path, str]) -> None:
    path, key = listed
    issuer = tmp_path / "jwks.json"
    issuer.write_text(jwks(entry("EdDSA")))
    chosen = settings(
        api_keys_file=str(path),
        jwks_file=str(issuer),
        jwt_issuer=ISSUER,
        jwt_audience=AUDIENCE,
        mesh_key=MESH.hex(),
    )
    async with running(chosen, build) as (channel, floor):
        bearer = ("authorization", f"Bearer {token(roles=['a'])}")
        assert await who(channel, bearer) == ["ann", "acme", ["a"]]
        assert (await who(channel, ("x-api-key", key)))[0] == "ci"
        assert "API key or a token" in await refusal(channel)
        assert "expired" in await refusal(channel, ("authorization", f"Bearer {token(exp=1)}"))
        before = floor.doorkeeper.files[1].value
        issuer.write_text(jwks(entry("ES256")))
        await told(floor, lambda: floor.doorkeeper.files[1].value is not before)
        assert (await who(channel, ("authorization", f"Bearer {token('ES256')}")))[1] == "acme"
        assert "no key of its id" in await refusal(channel, bearer)


async def test_the_gateways_word_and_nobody_elses() -> None:
    vouched = Mesh([MESH]).vouch(Caller(tenant="acme")).vouching
    async with running(settings(mesh_key=MESH.hex()), build) as (channel, _):
        assert await who(channel, *vouched) == ["", "acme", []]
        assert await who(channel) == ["", "", []]
        assert "MAAS_MESH_KEY" in await refusal(channel, ("x-maas-tenant", "acme"))
        assert "MAAS_MESH_KEY" in await refusal(channel, ("x-maas-tenant", "other"), vouched[1])
    async with running(settings(), build) as (channel, _):
        assert "not set here" in await refusal(channel, *vouched)


@pytest.mark.parametrize("open_reflection", [True, False])
async def test_health_is_open_and_reflection_as_is_set(listed: tuple[Path, str], open_reflection: bool) -> None:
    path, key = listed
    chosen = settings(api_keys_file=str(path), open_reflection=open_reflection)
    async with running(chosen, build) as (channel, _):
        assert (await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())).status == 1
        reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
        assert [one async for one in reflect(iter(asked), metadata=(("x-api-key", key),))]
        if open_reflection:
            assert [one async for one in reflect(iter(asked))]
        else:
            with pytest.raises(aio.AioRpcError) as error:
                [one async for one in reflect(iter(asked))]
            assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_certificate_is_a_credential(tmp_path: Path) -> None:
    authority = Authority()
    path = tmp_path / "keys.toml"
    known = {"subject": "spiffe://mesh/batch", "tenant": "acme", "roles": ["writer"]}
    path.write_text(tomli_w.dumps({"certificates": [known, {"subject": "by-name", "tenant": "umbrella"}]}))
    floor: Floor[ServerSettings] = Floor(settings(api_keys_file=str(path)))
    server = aio.server()
    door = floor._door
    assert isinstance(door, Door)
    pb_grpc.add_TokenizationServiceServicer_to_server(Who(), Registrar(server, door))
    port = server.add_secure_port("localhost:0", authority.server())
    await server.start()
    try:
        for found, uri, name in (
            (["spiffe://mesh/batch", "acme", ["writer"]], "spiffe://mesh/batch", "x"),
            (["by-name", "umbrella", []], "spiffe://mesh/other", "by-name"),
        ):
            async with aio.secure_channel(f"localhost:{port}", authority.client(uri, name)) as channel:
                assert await who(channel) == found
        async with aio.secure_channel(f"localhost:{port}", authority.client("spiffe://mesh/x", "x")) as channel:
            assert "missing" in await refusal(channel)
    finally:
        await server.stop(None)
