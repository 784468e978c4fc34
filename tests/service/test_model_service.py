"""What ModelService tells of a model besides its state."""

from pathlib import Path

import pytest

from maas.model.v1 import model_service_pb2, model_service_pb2_grpc
from services.runtime.store.store import ModelStore
from services.tokenization.__main__ import build
from services.tokenization.settings import TokenizationSettings
from tests.harness import running
from tests.unit.runtime.text.made import byte_level


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (None, False),
        ("{{ messages[0].content }}", False),
        ("{{ strftime_now('%d %b %Y') }}{{ messages[0].content }}", True),
    ],
)
async def test_a_model_whose_chat_template_tells_the_time_says_so(
    tmp_path: Path, template: str | None, expected: bool
):
    with ModelStore(tmp_path).publish("chatty") as draft:
        (draft.directory / "tokenizer.json").write_bytes(byte_level().to_str().encode())
        spec = {"file": "tokenizer.json"} | ({"chat_template": template} if template else {})
        draft.fields.update(tasks=["tokenization.tokenize"], runner="none", tokenizer=spec)
    settings = TokenizationSettings(
        port=0, metrics_port=0, store=tmp_path, lame_duck_s=0, drain_s=1, tokenize_model="chatty"
    )
    async with running(settings, build) as (channel, _):
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        listed = (await stub.ListModels(model_service_pb2.ListModelsRequest())).models
        found = (await stub.GetModel(model_service_pb2.GetModelRequest(model="chatty"))).model
    assert [one.chat_tells_time for one in (*listed, found)] == [expected] * 2
