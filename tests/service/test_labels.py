"""Labels at a service that is called directly: who answers, what ModelService tells and takes."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc import aio

from maas.model.v1 import model_pb2, model_service_pb2, model_service_pb2_grpc
from maas.tokenization.v1 import tokenization_service_pb2, tokenization_service_pb2_grpc
from services.runtime.store.store import ModelStore
from services.tokenization.__main__ import build
from services.tokenization.settings import TokenizationSettings
from tests.harness import running
from tests.unit.runtime.text.made import byte_level

NAME = "words"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Three versions; 1 is stable."""
    found = ModelStore(tmp_path)
    for _ in range(3):
        with found.publish(NAME) as draft:
            (draft.directory / "tokenizer.json").write_bytes(byte_level().to_str().encode())
            spec = {"file": "tokenizer.json"}
            draft.fields.update(tasks=["tokenization.tokenize"], runner="none", tokenizer=spec)
    found.set_label(NAME, "stable", 1)
    return found


@pytest.fixture
async def channel(store: ModelStore) -> AsyncIterator[aio.Channel]:
    """A service that looks at the store every 50 ms."""
    settings = TokenizationSettings(
        port=0, metrics_port=0, store=store.root, store_poll_s=0.05, lame_duck_s=0, drain_s=1, tokenize_model=NAME
    )
    async with running(settings, build) as (found, _):
        yield found


def models(channel: aio.Channel) -> model_service_pb2_grpc.ModelServiceStub:
    return model_service_pb2_grpc.ModelServiceStub(channel)


async def served(channel: aio.Channel, version: str = "") -> str:
    stub = tokenization_service_pb2_grpc.TokenizationServiceStub(channel)
    request = tokenization_service_pb2.TokenizeRequest(texts=["fox"], version=version)
    return str((await stub.Tokenize(request)).served_by.version)


async def listed(channel: aio.Channel) -> dict[str, tuple[str, list[str], bool]]:
    """Version → state, labels, whether it answers calls without a version."""
    found = (await models(channel).ListModels(model_service_pb2.ListModelsRequest())).models
    name = model_pb2.ModelState.Name
    return {m.version: (name(m.state)[12:], list(m.version_labels), m.answers_unversioned) for m in found}


async def test_labels_say_who_answers_and_which_versions_stay(channel: aio.Channel) -> None:
    assert [await served(channel, version) for version in ("", "stable", "3")] == ["1", "1", "3"]
    assert await listed(channel) == {
        "1": ("SERVING", ["stable"], True),
        "2": ("AVAILABLE", [], False),
        "3": ("SERVING", [], False),
    }
    with pytest.raises(aio.AioRpcError, match="available: 1, 3, stable"):
        await served(channel, "canary")


async def test_a_label_moved_in_the_store_is_told_to_watchers(channel: aio.Channel, store: ModelStore) -> None:
    watch = models(channel).WatchModels(model_service_pb2.WatchModelsRequest(), timeout=20)
    while not (await watch.read()).snapshot_end:
        pass
    store.set_label(NAME, "stable", 3)
    told = []
    while not told or told[-1].state != model_pb2.MODEL_STATE_AVAILABLE:
        told.append((await watch.read()).model)
    state = model_pb2.ModelState.Name
    assert [(m.version, state(m.state)[12:], list(m.version_labels), m.answers_unversioned) for m in told] == [
        ("3", "SERVING", ["stable"], True),
        ("1", "SERVING", [], False),
        ("1", "DRAINING", [], False),
        ("1", "AVAILABLE", [], False),
    ]
    assert await served(channel) == "3"


async def test_a_label_set_by_rpc_holds_when_the_call_returns(channel: aio.Channel, store: ModelStore) -> None:
    request = model_service_pb2.SetLabelRequest(model=NAME, label="canary", version="2")
    reply = await models(channel).SetLabel(request)
    assert (reply.model.version, reply.model.answers_unversioned) == ("1", True)
    assert [await served(channel, version) for version in ("", "canary")] == ["1", "2"]
    reply = await models(channel).SetLabel(
        model_service_pb2.SetLabelRequest(model=NAME, label="stable", version="canary")
    )
    assert reply.model.version == await served(channel) == "2"
    await models(channel).SetLabel(model_service_pb2.SetLabelRequest(model=NAME, label="stable"))
    assert await served(channel) == "3"
    assert store.labels(NAME) == {"canary": 2}


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"label": "stable", "version": "9"}, grpc.StatusCode.NOT_FOUND),
        ({"label": "latest", "version": "2"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"label": "", "version": "2"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"label": "stable", "version": "2", "model": "nope"}, grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_a_wrong_label_is_refused_and_changes_nothing(
    channel: aio.Channel, store: ModelStore, request_: dict[str, str], code: grpc.StatusCode
) -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await models(channel).SetLabel(model_service_pb2.SetLabelRequest(**{"model": NAME} | request_))
    assert caught.value.code() is code
    assert store.labels(NAME) == {"stable": 1}
    assert await served(channel) == "1"


async def test_a_load_by_hand_wins_until_stable_is_set(channel: aio.Channel, store: ModelStore) -> None:
    await models(channel).LoadModel(model_service_pb2.LoadModelRequest(model=NAME, version="2"))
    assert [await served(channel, version) for version in ("", "stable")] == ["2", "1"]
    await models(channel).LoadModel(model_service_pb2.LoadModelRequest(model=NAME))
    assert await served(channel) == "1"


async def test_one_of_several_loaded_versions_is_not_unloaded_alone(channel: aio.Channel) -> None:
    with pytest.raises(aio.AioRpcError, match="kept loaded as stable") as caught:
        await models(channel).UnloadModel(model_service_pb2.UnloadModelRequest(model=NAME, version="stable"))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    await models(channel).UnloadModel(model_service_pb2.UnloadModelRequest(model=NAME))
    with pytest.raises(aio.AioRpcError) as caught:
        await served(channel)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_model_of_another_service_is_not_shown_here(channel: aio.Channel, store: ModelStore) -> None:
    with store.publish("digits") as draft:
        (draft.directory / "weights.bin").write_bytes(b"1")
        draft.fields.update(tasks=["vision.classify"])
    store.set_label("digits", "canary", 1)
    for call in (
        models(channel).GetModel(model_service_pb2.GetModelRequest(model="digits")),
        models(channel).SetLabel(model_service_pb2.SetLabelRequest(model="digits", label="canary")),
    ):
        with pytest.raises(aio.AioRpcError, match=r"serves vision\.classify, nothing of tokenization") as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert store.labels("digits") == {"canary": 1}
