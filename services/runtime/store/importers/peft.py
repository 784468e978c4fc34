"""A PEFT directory (adapter_config.json, adapter_model.safetensors) → an adapter's draft. Runs no model.

What would change more than the linear layers of a model's blocks is refused: served, it would say something else.
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.runtime.errors import InvalidInput
from services.runtime.store.importers.inputs import Files
from services.runtime.store.paths import is_name

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
KEY = re.compile(r"^base_model\.model\.(?:\w+\.)*?(?P<layer>\w+)\.lora_[AB](?:\.default)?\.weight$")
LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LAYERS = frozenset({*LLAMA, "c_attn", "c_proj", "c_fc"})
# What must be unset, and what is meant when it is set.
REFUSED = {
    "use_dora": "DoRA",
    "modules_to_save": "whole layers beside the low-rank pairs",
    "lora_bias": "a bias in the low-rank pairs",
    "rank_pattern": "a rank for each layer",
    "alpha_pattern": "an alpha for each layer",
    "layer_replication": "repeated layers",
    "trainable_token_indices": "embeddings of tokens",
}
# Other beginnings (PiSSA, OLoRA, LoftQ, CorDA) change the base as well, which would have to be stored.
PLAIN_BEGINNINGS = (None, True, False, "gaussian", "orthogonal", "eva")


def run(files: Files, directory: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Write the weights into `directory`; manifest fields. `options["base"]`: the base's name in the store."""
    if CONFIG not in files or WEIGHTS not in files:
        raise InvalidInput("file", f"{CONFIG} and {WEIGHTS} are needed, got {sorted(files)}")
    config = json.loads(files[CONFIG].read_bytes())
    _check(config)
    _check_layers(files[WEIGHTS])
    shutil.copyfile(files[WEIGHTS], directory / WEIGHTS)
    return {
        "tasks": ["generation.adapter"],
        "runner": "engine",
        "config": {
            "base": _base(config, options),
            "r": config["r"],
            "lora_alpha": config["lora_alpha"],
            "target_modules": _targets(config.get("target_modules") or []),
            "use_rslora": bool(config.get("use_rslora")),
        },
    }


def _check(config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise InvalidInput("peft_type", f"{config.get('peft_type')!r} is not served; known: LORA")
    for key, meaning in REFUSED.items():
        if config.get(key):
            raise InvalidInput(key, f"asks for {meaning}, which is not served; merge the adapter into its base")
    if config.get("bias", "none") != "none":
        raise InvalidInput("bias", f"is {config['bias']!r}: trained biases are not served; known: none")
    if config.get("init_lora_weights") not in PLAIN_BEGINNINGS:
        told = f"is {config['init_lora_weights']!r}, which changes the base too; convert it to a plain LoRA"
        raise InvalidInput("init_lora_weights", told)
    for key in ("r", "lora_alpha"):
        if isinstance(config.get(key), bool) or not isinstance(config.get(key), int | float) or config[key] <= 0:
            raise InvalidInput(key, f"{config.get(key)!r} is not a number above 0")


def _targets(named: Any) -> Any:
    """A pattern, or names: PEFT writes a set, in another order each time."""
    return named if isinstance(named, str) else sorted(named)


def _check_layers(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            keys = list(file.keys())
    except SafetensorError as error:
        raise InvalidInput("file", f"{path.name} is not a safetensors file: {error}") from error
    for key in keys:
        found = KEY.match(key)
        if found is None or found["layer"] not in LAYERS:
            known = ", ".join(sorted(LAYERS))
            raise InvalidInput("target_modules", f"{key} is not served; lora_A and lora_B of {known} are")


def _base(config: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """As told, or the last part of the name it was trained under."""
    name = str(options.get("base") or Path(config.get("base_model_name_or_path") or "").name.lower())
    if not is_name(name):
        raise InvalidInput("base", f"{name!r} is no model's name; give the base's name in the store (--base)")
    return name
