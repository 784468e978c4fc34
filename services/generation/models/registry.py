"""Architecture name → language model, with random weights or a store's. Refuses to know serving."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from services.generation.models import gpt2, llama
from services.generation.models.causal_lm import CausalLM
from services.generation.models.config import ModelConfig, gpt2_config, llama_config, qwen2_config, qwen3_config
from services.generation.models.gpt2 import GPT2LMHeadModel
from services.generation.models.llama import LlamaForCausalLM
from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest
from services.runtime.weights import load_weights, without_weights

WEIGHTS_FILE = "model.safetensors"
TIED_HEAD = r"^lm_head\."


class Architecture(NamedTuple):
    """How to read its config, how to build one, and how its checkpoints name things."""

    config: Callable[[Mapping[str, Any]], ModelConfig]
    build: Callable[[ModelConfig], CausalLM]
    rename: Mapping[str, str]
    ignore: Sequence[str] = ()


ARCHITECTURES: Mapping[str, Architecture] = {
    "LlamaForCausalLM": Architecture(llama_config, LlamaForCausalLM, llama.RENAME),
    "MistralForCausalLM": Architecture(llama_config, LlamaForCausalLM, llama.RENAME),
    "Qwen2ForCausalLM": Architecture(qwen2_config, LlamaForCausalLM, llama.RENAME),
    "Qwen3ForCausalLM": Architecture(qwen3_config, LlamaForCausalLM, llama.RENAME),
    "GPT2LMHeadModel": Architecture(gpt2_config, GPT2LMHeadModel, gpt2.RENAME, gpt2.IGNORE),
}


def build(architecture: str, config: Mapping[str, Any]) -> CausalLM:
    """A model of the named architecture with random weights. PreconditionFailed if unknown or misshapen."""
    return _known(architecture).build(read(architecture, config))


def read(architecture: str, config: Mapping[str, Any]) -> ModelConfig:
    """The shape of such a model. PreconditionFailed if the architecture is unknown or a key is missing."""
    try:
        return _known(architecture).config(config)
    except KeyError as error:
        raise PreconditionFailed(f"config of {architecture} lacks the key {error}") from error


def describe(manifest: Manifest) -> ModelConfig:
    """The shape of the model of `manifest`; no file is read."""
    return read(manifest.architecture, manifest.config)


def load(manifest: Manifest, directory: Path) -> CausalLM:
    """The model of `manifest` with the (memory-mapped) weights in `directory`, in eval mode."""
    known = _known(manifest.architecture)
    with without_weights():
        model = build(manifest.architecture, manifest.config)
    ignore = (*known.ignore, TIED_HEAD) if model.config.tie_word_embeddings else known.ignore
    load_weights(model, directory / WEIGHTS_FILE, known.rename, ignore)
    return model.eval().requires_grad_(False)


def renames(architecture: str) -> Mapping[str, str]:
    """Regexes and what they make of a checkpoint's names: the net's."""
    return _known(architecture).rename


def prefix(architecture: str) -> str:
    """What stands before the net's own names in a checkpoint of today."""
    return "transformer." if _known(architecture).build is GPT2LMHeadModel else "model."


def _known(architecture: str) -> Architecture:
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise PreconditionFailed(f"generation architecture {architecture!r} is unknown; known: {known}")
    return ARCHITECTURES[architecture]
