"""Three who mean harm try every RPC that reflection tells of, at the gateway and at each service, over both
transports: one who shows nothing, one whom nothing is allowed, and one who lies, forges and overdoes it."""

import base64
import hashlib
import hmac
import itertools
import json
import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from grpc import aio
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gateway.__main__ import build as build_gateway
from gateway.ending import end_of, settled
from gateway.settings import GatewaySettings
from maas.gateway.v1 import gateway_service_pb2 as gateway_pb
from maas.internal.v1 import envelope_service_pb2 as envelope_pb
from services.generation.__main__ import build as build_generation
from services.generation.settings import GenerationSettings
from services.runtime.channels import open_channel
from services.runtime.envelope.methods import EXCHANGE
from services.runtime.floor import Floor
from services.runtime.identity import keys
from services.runtime.identity.policy import ADMINISTRATIVE
from services.sequence.__main__ import build as build_sequence
from services.sequence.settings import SequenceSettings
from services.tokenization.__main__ import build as build_tokenization
from services.tokenization.settings import TokenizationSettings
from services.vision.__main__ import build as build_vision
from services.vision.settings import VisionSettings
from tests.unit.runtime.identity.tokens import AUDIENCE, ISSUER, entry, jwks, token

BUILDS: dict[str, tuple[Any, Any]] = {
    "tokenization": (TokenizationSettings, build_tokenization),
    "vision": (VisionSettings, build_vision),
    "sequence": (SequenceSettings, build_sequence),
    "generation": (GenerationSettings, build_generation),
}
POLICY = """
[[allow]]
roles = ["reader"]
methods = ["*"]

[[allow]]
roles = ["operator"]
administration = true
"""
ROLES = {"reader": ["reader"], "stranger": ["stranger"], "operator": ["operator"]}
HEALTH = "/grpc.health.v1.Health/"
Metadata = tuple[tuple[str, str], ...]
# How a call may end that asks for what cannot be.
REFUSED = {
    *("INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED"),
    *("UNIMPLEMENTED", "UNAVAILABLE"),
}
# What they tell is of the server: whatever else is in the question does not matter to them.
TELLING = {
    *("ListModels", "WatchModels", "ListPipelines", "GetStatus", "GetUsage", "ServerLive", "ServerReady"),
    *("ServerMetadata", "ModelReady", "ModelStatistics", "RepositoryIndex"),
}
# Each call in them has a status of its own.
MANY = {"FanOut", "FanOutStream", "RunPipeline", "RunPipelineStream", "ModelStreamInfer"}
PATHS = ("../../../../etc/passwd", "/etc/passwd", "..\\..\\x", "lite/../../x", "%2e%2e%2f", "file:///etc/passwd")


@dataclass(frozen=True)
class Door:
    """A server, and what reflection says that it serves."""

    name: str
    channel: aio.Channel
    methods: Sequence[MethodDescriptor]

    @property
    def closed(self) -> list[MethodDescriptor]:
        return [method for method in self.methods if not path_of(method).startswith(HEALTH)]


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


@asynccontextmanager
async def doors(folder: Path, transport: str) -> AsyncIterator[tuple[list[Door], dict[str, Metadata]]]:
    """Every server of the suite, without a model; and the credentials of a reader, a stranger and an operator."""
    made = {name: keys.new("acme", name, roles, None) for name, roles in ROLES.items()}
    (folder / "keys.toml").write_text(tomli_w.dumps({"keys": [table for _, table in made.values()]}))
    (folder / "policy.toml").write_text(POLICY)
    (folder / "jwks.json").write_text(jwks(entry("EdDSA"), entry("RS256")))
    told: dict[str, Any] = {
        **{"port": 0, "lame_duck_s": 0, "drain_s": 0.2, "transport": transport, "open_reflection": False},
        **{"store": folder / "store", "redis_url": "", "mesh_key": "ab" * 32},
        **{"api_keys_file": str(folder / "keys.toml"), "policy_file": str(folder / "policy.toml")},
        **{"jwks_file": str(folder / "jwks.json"), "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE},
    }
    given = {name: (("x-api-key", key),) for name, (key, _) in made.items()}
    async with AsyncExitStack() as stack:
        found, addresses = {}, {}
        for area, (settings, build) in BUILDS.items():
            kept = {key: value for key, value in told.items() if key in settings.model_fields}
            addresses[f"{area}_address"] = address = await at(stack, settings(**kept), build)
            found[area] = await stack.enter_async_context(open_channel(address, retry=False))
        front = GatewaySettings(**told, **addresses, start_wait_s=5, usage=False)
        address = await at(stack, front, build_gateway)
        found["gateway"] = await stack.enter_async_context(open_channel(address, retry=False))
        yield [Door(name, one, await served(one, given["operator"])) for name, one in found.items()], given


async def at(stack: AsyncExitStack, settings: Any, build: Any) -> str:
    """The address of a server that runs until the stack ends."""
    floor: Floor[Any] = Floor(settings)
    await build(floor)
    stack.push_async_callback(floor.close)
    return f"127.0.0.1:{await floor.start()}"


async def served(channel: aio.Channel, metadata: Metadata) -> list[MethodDescriptor]:
    """Every method of every service that the server lists."""
    ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
    asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
    names = [s.name async for r in ask(iter(asked), metadata=metadata) for s in r.list_services_response.service]
    pool = descriptor_pool.Default()
    return [method for name in names for method in pool.FindServiceByName(name).methods]


async def code_of(channel: aio.Channel, path: str, metadata: Metadata, *bodies: bytes) -> tuple[str, bytes]:
    """How a call of any shape ends, and what it was answered."""
    ends: list[aio.AioRpcError] = []
    call, answers = channel.stream_stream(path)(iter(bodies or (b"",)), metadata=metadata, timeout=10), b""
    call.add_done_callback(lambda _: ends.append(end_of(call)))
    try:
        async for answer in call:
            answers += answer
            if path.endswith(("Watch", "WatchModels")):
                call.cancel()
                break
    except aio.AioRpcError as error:
        # A client whose write fails, as the server has ended the call, says INTERNAL of itself.
        end = await settled(call, ends[0] if ends else error)
        assert "Traceback" not in str(end.details()) and len(str(end.details())) < 20_000, path
        return str(end.code().name), answers
    return "OK", answers


def forged(key: str) -> Iterator[Metadata]:
    """Credentials that nobody gave."""
    ends = int(time.time()) + 600
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "tenant": "acme", "roles": ["operator"], "exp": ends}
    public = entry("RS256")
    signed = [
        unsigned({"alg": "none"}, said) + ".",
        unsigned({"alg": "none", "kid": "EdDSA"}, said) + ".",
        # Signed with the public key, as if it were a shared secret.
        by_secret({"alg": "HS256", "kid": "RS256"}, said, json.dumps(public).encode()),
        # By a key that it brings along.
        token(kid="EdDSA", key=Ed25519PrivateKey.generate(), roles=["operator"]),
        token(kid="../../../../dev/null", roles=["operator"]),
        token(exp=1, roles=["operator"]),
        token(nbf=ends, roles=["operator"]),
        token(iss="https://other.example"),
        token(aud="other"),
        token(sub=None),
        token(exp=None),
        token()[:-8] + "AAAAAAAA",
        "a.b.c",
        "." * 4000,
    ]
    yield from ((("authorization", f"Bearer {one}"),) for one in signed)
    yield (("x-api-key", key[:-6] + "AAAAAA"),)
    yield (("x-api-key", "maas_' OR 1=1 --"),)
    yield (("authorization", f"Basic {base64.b64encode(key.encode()).decode()}"),)
    yield (("x-maas-tenant", "acme"),)
    yield (("x-maas-tenant", "acme"), ("x-maas-mesh", "0" * 48))
    yield (("x-forwarded-client-cert", 'Subject="CN=operator"'), ("x-real-ip", "127.0.0.1"))


def unsigned(head: dict[str, Any], said: dict[str, Any]) -> str:
    return ".".join(
        base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode() for one in (head, said)
    )


def by_secret(head: dict[str, Any], said: dict[str, Any], secret: bytes) -> str:
    text = unsigned(head, said)
    signature = base64.urlsafe_b64encode(hmac.digest(secret, text.encode(), hashlib.sha256))
    return f"{text}.{signature.rstrip(b'=').decode()}"


@pytest.mark.parametrize("transport", ["native", pytest.param("grpc", marks=pytest.mark.slow)])
async def test_three_who_mean_harm_try_every_rpc(tmp_path: Path, transport: str) -> None:
    async with doors(tmp_path, transport) as (found, given):
        assert {door.name for door in found} == {*BUILDS, "gateway"}
        assert len({path_of(method) for door in found for method in door.methods}) > 50
        assert {path_of(method) for door in found for method in door.methods} >= ADMINISTRATIVE
        for door in found:
            await nobody(door, given)
            await stranger(door, given)
            await administers_nothing(door, given)
            await overdoes_it(door, given["reader"])


async def nobody(door: Door, given: dict[str, Metadata]) -> None:
    lies = itertools.cycle(forged(given["operator"][0][1]))
    for method in door.closed:
        for metadata, body in (((), b""), ((), b"\xff\xff"), (next(lies), b""), (next(lies), b"")):
            ended = await code_of(door.channel, path_of(method), metadata, body)
            assert ended == ("UNAUTHENTICATED", b""), (door.name, method.full_name, metadata)


async def stranger(door: Door, given: dict[str, Metadata]) -> None:
    for method in door.closed:
        for body in (b"", b"\xff\xff"):
            ended = await code_of(door.channel, path_of(method), given["stranger"], body)
            assert ended == ("PERMISSION_DENIED", b""), (door.name, method.full_name)


async def administers_nothing(door: Door, given: dict[str, Metadata]) -> None:
    """Neither by itself nor in what carries calls."""
    for method in door.methods:
        if path_of(method) in ADMINISTRATIVE:
            ended = await code_of(door.channel, path_of(method), given["reader"])
            assert ended == ("PERMISSION_DENIED", b""), (door.name, method.full_name)
    if door.name == "gateway":
        # A fan-out and a pipeline have no words for them: fields that nobody knows are no call.
        for request in (gateway_pb.FanOutRequest(calls=[{"id": "a"}]), gateway_pb.RunPipelineRequest(name="../x")):
            path = f"/maas.gateway.v1.GatewayService/{type(request).__name__.removesuffix('Request')}"
            code, _ = await code_of(door.channel, path, given["reader"], request.SerializeToString())
            assert code in ("INVALID_ARGUMENT", "NOT_FOUND"), path
        assert (await code_of(door.channel, EXCHANGE, given["operator"]))[0] == "UNIMPLEMENTED"
        return
    for who in ("nobody", "stranger", "reader"):
        metadata = [text for pair in given.get(who, ()) for text in pair]
        items = [
            envelope_pb.EnvelopeItem(id=n, method=path_of(method), metadata=metadata, request=b"\xff")
            for n, method in enumerate(door.closed)
        ]
        # What the stream itself shows is not what its items show.
        sent = envelope_pb.ExchangeRequest(items=items).SerializeToString()
        code, answers = await code_of(door.channel, EXCHANGE, given["operator"], sent)
        told = {reply.id: reply.code for reply in envelope_pb.ExchangeResponse.FromString(answers).replies}
        assert code == "OK" and len(told) == len(items)
        # INVALID_ARGUMENT, PERMISSION_DENIED, UNIMPLEMENTED, UNAUTHENTICATED.
        assert set(told.values()) <= ({3, 7, 12} if who == "reader" else {7, 12, 16}), (who, told)


async def overdoes_it(door: Door, reader: Metadata) -> None:
    """Who may call, and asks for what is not his or cannot be."""
    for method in door.closed:
        path = path_of(method)
        if path in ADMINISTRATIVE or not method.containing_service.full_name.startswith(("maas.", "inference.")):
            continue
        for request in hostile(method):
            code, answers = await code_of(door.channel, path, reader, request.SerializeToString())
            assert code in REFUSED or (code == "OK" and method.name in TELLING | MANY), (
                door.name,
                path,
                code,
                request,
            )
            assert b"root:" not in answers
    asks = path_of(next(method for method in door.closed if method.name == "GetModel"))
    for more in (
        (("x-large", "a" * 60_000),),
        tuple((f"x-{n}", "a" * 100) for n in range(400)),
        (("x-request-id", "../" * 100),),
        (("x-maas-priority", "root"),),
        (("cache-control", "max-age=-1e999"),),
        (("traceparent", "00-" + "z" * 4000),),
        (("grpc-previous-rpc-attempts", "99999999999999999999"),),
    ):
        with pytest.raises(aio.AioRpcError) as error:
            await door.channel.unary_unary(asks)(b"", metadata=(*reader, *more), timeout=10)
        assert error.value.code().name in REFUSED, (door.name, more[0][0], error.value)


def hostile(method: MethodDescriptor) -> Iterator[Message]:
    """Requests of a method whose every field leads out, is huge, or is at an end of its range."""
    kind = message_factory.GetMessageClass(method.input_type)
    for path in PATHS:
        yield filled(kind(), path, path.encode(), 1, 1)
    yield filled(kind(), "\0\n\r\x7f", b"\0", -1, 1)
    yield filled(kind(), "a" * 20_000, b"\xff" * 20_000, 2**31 - 1, 1)
    yield filled(kind(), "a", b"a", math.inf, 2)
    yield filled(kind(), "", b"", math.nan, 300, depth=2)


def filled(message: Any, text: str, data: bytes, number: float, items: int, depth: int = 5) -> Any:
    """Every field set, down to `depth`; of a oneof the last."""
    for field in message.DESCRIPTOR.fields if depth else ():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        value = _value(field, text, data, number)
        if field.is_repeated:
            many = getattr(message, field.name)
            for _ in range(items):
                many.append(value) if field.message_type is None else filled(
                    many.add(), text, data, number, items, depth - 1
                )
        elif field.message_type is None:
            setattr(message, field.name, value)
        else:
            getattr(message, field.name).SetInParent()
            filled(getattr(message, field.name), text, data, number, items, depth - 1)
    return message


def _value(field: FieldDescriptor, text: str, data: bytes, number: float) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return data if field.type == FieldDescriptor.TYPE_BYTES else text
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return number
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return True
    whole = int(number) if math.isfinite(number) else 2**31 - 1
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return 99
    return (
        max(0, whole)
        if field.cpp_type in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)
        else whole
    )
