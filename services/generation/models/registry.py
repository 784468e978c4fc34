"""Architecture name → language model, with random weights or a store's. Refuses to know serving."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from services.generation.models import gpt2, llama
from services.generation.models.causal_lm import CausalLM
from services.generation.models.config import ModelConfig
from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest
from services.runtime.weights import load_weights

WEIGHTS_FILE = "model.safetensors"
TIED_HEAD = r"^lm_head\."


class Architecture(NamedTuple):
    """How to build one, and how its checkpoints name things."""

    build: Callable[[Mapping[str, Any]], CausalLM]
    rename: Mapping[str, str]
    ignore: Sequence[str] = ()


ARCHITECTURES: Mapping[str, Architecture] = {
    "LlamaForCausalLM": Architecture(llama.llama, llama.RENAME),
    "MistralForCausalLM": Architecture(llama.llama, llama.RENAME),
    "Qwen2ForCausalLM": Architecture(llama.qwen2, llama.RENAME),
    "Qwen3ForCausalLM": Architecture(llama.qwen3, llama.RENAME),
    "GPT2LMHeadModel": Architecture(gpt2.gpt2, gpt2.RENAME, gpt2.IGNORE),
}


def build(architecture: str, config: Mapping[str, Any]) -> CausalLM:
    """A model of the named architecture with random weights. PreconditionFailed if unknown or misshapen."""
    try:
        return _known(architecture).build(config)
    except KeyError as error:
        raise PreconditionFailed(f"config of {architecture} lacks the key {error}") from error


def describe(manifest: Manifest) -> ModelConfig:
    """The shape of the model of `manifest`; no file is read."""
    with torch.device("meta"):
        return build(manifest.architecture, manifest.config).config


def load(manifest: Manifest, directory: Path) -> CausalLM:
    """The model of `manifest` with the (memory-mapped) weights in `directory`, in eval mode."""
    known = _known(manifest.architecture)
    with torch.device("meta"):
        model = build(manifest.architecture, manifest.config)
    ignore = (*known.ignore, TIED_HEAD) if model.config.tie_word_embeddings else known.ignore
    load_weights(model, directory / WEIGHTS_FILE, known.rename, ignore)
    return model.eval().requires_grad_(False)


def _known(architecture: str) -> Architecture:
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise PreconditionFailed(f"generation architecture {architecture!r} is unknown; known: {known}")
    return ARCHITECTURES[architecture]
