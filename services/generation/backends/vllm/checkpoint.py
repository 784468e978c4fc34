"""A stored version as the folder that vLLM reads: config.json, and links to the files. Knows no vLLM."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore

FOLDERS = ".vllm"  # beside the models: one for each digest
MODEL_TYPES: Mapping[str, str] = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "GPT2LMHeadModel": "gpt2",
}
# What the library takes when a config is silent, where the suite takes another value.
SILENT = {"sliding_window": None}


def prepare(manifest: Manifest, directory: Path, store: ModelStore) -> Path:
    """The version's folder, made or made whole; who reads it meanwhile is not disturbed.

    PreconditionFailed if vLLM has no such architecture.
    """
    config = json.dumps(_config(manifest), indent=1)
    folder = store.root / FOLDERS / _name(manifest)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        (Path(aside) / "config.json").write_text(config)
        for name in manifest.files:
            # Relative, so that the store may be mounted elsewhere on another machine.
            (Path(aside) / name).symlink_to(os.path.relpath(directory.resolve() / name, folder.resolve()))
        for made in Path(aside).iterdir():
            made.replace(folder / made.name)
    _drop_orphans(store)
    return folder


def _config(manifest: Manifest) -> dict[str, Any]:
    architecture = manifest.architecture
    if architecture not in MODEL_TYPES:
        raise PreconditionFailed(f"the vllm backend serves {', '.join(MODEL_TYPES)}; not {architecture!r}")
    own = {"architectures": [architecture], "model_type": MODEL_TYPES[architecture], "dtype": "float32"}
    return SILENT | manifest.config | own


def _drop_orphans(store: ModelStore) -> None:
    """Folders of versions that are gone."""
    kept = {_name(manifest) for manifest in store.manifests()}
    for folder in (store.root / FOLDERS).iterdir():
        if folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def _name(manifest: Manifest) -> str:
    return manifest.digest.removeprefix("sha256:")
