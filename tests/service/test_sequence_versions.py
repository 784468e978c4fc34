"""Sessions while another version of their model is loaded: they end on the version that they began with."""

import asyncio
import shutil
from pathlib import Path

import grpc
import pytest

from maas.model.v1 import model_service_pb2 as ms
from maas.model.v1.model_service_pb2_grpc import ModelServiceStub
from maas.sequence.v1 import sequence_pb2
from maas.sequence.v1 import sequence_service_pb2 as pb
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub
from services.runtime.states import State
from services.runtime.store.store import ModelStore
from services.sequence.__main__ import build
from services.sequence.settings import SequenceSettings
from tests.harness import running
from tests.service.sequence.calls import FRAMES, Talk, refused, step

pytestmark = pytest.mark.models
NAME = "silero-vad"


@pytest.fixture
def store(model_store: ModelStore, tmp_path: Path) -> ModelStore:
    shutil.copytree(model_store.directory(model_store.resolve(NAME)).parent, tmp_path / NAME)
    return ModelStore(tmp_path)


def publish_again(store: ModelStore) -> None:
    """The same files as the next version."""
    manifest = store.resolve(NAME)
    with store.publish(NAME) as draft:
        for file in manifest.files:
            shutil.copy(store.directory(manifest) / file, draft.directory)
        draft.fields.update(manifest.model_dump(exclude={"name", "version", "files"}))


async def test_an_open_stream_outlives_its_version_and_a_single_step_does_not(store: ModelStore) -> None:
    settings = SequenceSettings(port=0, store=store.root, lame_duck_s=0, drain_s=1, metrics_port=0)
    async with running(settings, build) as (channel, floor):
        stub, models = SequenceServiceStub(channel), ModelServiceStub(channel)
        talk, left = Talk(stub), pb.StepSessionRequest(open=sequence_pb2.OpenSession(session_id="left"))
        await talk.open(session_id="held")
        await stub.StepSession(left)
        before = await talk.hear(FRAMES[:2])
        publish_again(store)
        await models.LoadModel(ms.LoadModelRequest(model=NAME, version="2"))
        (host,) = (follower.host for follower in floor._hosts)

        assert len(before + await talk.hear(FRAMES[2:4], first=3)) == 4
        assert [status.state for status in host.statuses()] == [State.DRAINING, State.SERVING]
        await talk.say(close=True)

        while host.statuses()[0].state is not State.AVAILABLE:  # the last lease is gone, so it closes
            await asyncio.sleep(0.01)
        late = pb.StepSessionRequest(session_id="left", step=step(1, FRAMES[0]))
        said = "version 1 of silero-vad, which is no longer served; open it anew"
        await refused(stub.StepSession(late), grpc.StatusCode.FAILED_PRECONDITION, said=said)
        await refused(stub.StepSession(late), grpc.StatusCode.NOT_FOUND)


async def test_a_server_stops_although_a_stream_holds_its_model(store: ModelStore) -> None:
    settings = SequenceSettings(port=0, store=store.root, lame_duck_s=0, drain_s=20, metrics_port=0)
    async with running(settings, build) as (channel, floor):
        talk = Talk(SequenceServiceStub(channel))
        await talk.open()
        await floor.close()
        assert (await talk.call.read()).ended.reason == sequence_pb2.SESSION_END_DRAINING
