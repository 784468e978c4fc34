"""PEFT directories made on the spot: what they may hold, and what would be served wrongly."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cli.pulling import import_model
from services.runtime.errors import InvalidInput
from services.runtime.store.importers.table import importer_for
from services.runtime.store.store import ModelStore

PLAIN = {
    "peft_type": "LORA",
    "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["q_proj", "v_proj"],
    "bias": "none",
    "init_lora_weights": True,
    "modules_to_save": None,
    "rank_pattern": {},
    "use_dora": False,
    "use_rslora": True,
}
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


def made(directory: Path, layer: str = LAYER, **config: Any) -> Path:
    directory.mkdir()
    (directory / "adapter_config.json").write_text(json.dumps(PLAIN | config))
    (directory / "tokenizer.json").write_text("{}")
    sides = {f"{layer}.lora_A.weight": (2, 8), f"{layer}.lora_B.weight": (8, 2)}
    save_file(
        {k: np.ones(shape, np.float32) for k, shape in sides.items()}, directory / "adapter_model.safetensors"
    )
    return directory


def test_a_plain_adapter_is_published_for_its_base(tmp_path: Path) -> None:
    store, source = ModelStore(tmp_path / "store"), made(tmp_path / "mine")
    found = import_model(store, tmp_path, str(source), "mine", {})
    assert found.tasks == ("generation.adapter",) and found.config == {
        "base": "smollm2-135m-instruct",
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q_proj", "v_proj"],
        "use_rslora": True,
    }
    assert set(load_file(store.directory(found) / "adapter_model.safetensors")) == {
        f"{LAYER}.lora_A.weight",
        f"{LAYER}.lora_B.weight",
    }
    told = import_model(store, tmp_path, str(source), "mine", {"options": {"base": "other"}})
    assert told.config["base"] == "other" and told.digest != found.digest


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"peft_type": "IA3"}, "peft_type"),
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"bias": "all"}, "bias"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"r": 0}, "r"),
        ({"lora_alpha": None}, "lora_alpha"),
        ({"base_model_name_or_path": None}, "base"),
        ({"layer": "base_model.model.lm_head"}, "target_modules"),
        ({"layer": "base_model.model.model.layers.0.self_attn.qkv_proj"}, "target_modules"),
        ({"layer": "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"}, "target_modules"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_would_be_served_wrongly_is_refused(tmp_path: Path, config: dict[str, Any], field: str) -> None:
    store = ModelStore(tmp_path / "store")
    with pytest.raises(InvalidInput) as error:
        import_model(store, tmp_path, str(made(tmp_path / "mine", **config)), "mine", {})
    assert error.value.violations[0].field == field
    assert store.names() == []


def test_it_is_known_by_its_names_and_both_files_are_needed(tmp_path: Path) -> None:
    assert importer_for({"adapter_config.json": tmp_path, "tokenizer.json": tmp_path}) == "peft"
    source = made(tmp_path / "mine")
    (source / "adapter_model.safetensors").unlink()
    with pytest.raises(InvalidInput, match=r"adapter_model\.safetensors"):
        import_model(ModelStore(tmp_path / "store"), tmp_path, str(source), "mine", {})
