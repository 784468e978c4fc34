"""A load that fails keeps nothing of what it had started."""

import threading
from pathlib import Path

import pytest

from services.generation import model
from services.generation.observe import GenerationMetrics
from services.generation.settings import GenerationSettings
from services.runtime.errors import PreconditionFailed
from services.runtime.metrics import Metrics
from services.runtime.store.store import ModelStore
from tests.service.generation import publish


@pytest.mark.parametrize("fault", ["template", "vocabulary"])
async def test_no_engine_is_left_behind(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ModelStore(tmp_path)
    publish(store, "odd", **({"chat_template": "{% if"} if fault == "template" else {}))
    manifest = store.resolve("odd")

    def fails(*_: object) -> None:
        raise PreconditionFailed("no vocabulary")

    if fault == "vocabulary":
        monkeypatch.setattr(model, "_vocabularies", fails)
    settings = GenerationSettings(store=store.root, precision="fp32", kv_cache_mib=16)
    with pytest.raises(PreconditionFailed):
        await model.load(manifest, store.directory(manifest), settings, GenerationMetrics(Metrics(), "odd"))
    assert "engine-odd" not in {thread.name for thread in threading.enumerate()}
