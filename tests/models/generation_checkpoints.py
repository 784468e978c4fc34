"""Tiny random checkpoints saved by `transformers`, and the same through our loader."""

from pathlib import Path
from typing import Any

import torch
import transformers

from services.generation.models import registry
from services.generation.models.causal_lm import CausalLM
from services.runtime.store.manifest import Manifest

LLAMA = {
    "vocab_size": 128,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rope_theta": 50000.0,
}
WINDOW = {"use_sliding_window": True, "sliding_window": 24}
GPT2 = {"vocab_size": 128, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 512}

CHECKPOINTS: dict[str, tuple[type, dict[str, Any]]] = {
    "LlamaForCausalLM": (transformers.LlamaConfig, LLAMA),
    "llama-tied": (transformers.LlamaConfig, {**LLAMA, "tie_word_embeddings": True}),
    "MistralForCausalLM": (transformers.MistralConfig, {**LLAMA, "sliding_window": 24}),
    "Qwen2ForCausalLM": (transformers.Qwen2Config, LLAMA),
    "qwen2-window": (transformers.Qwen2Config, {**LLAMA, **WINDOW, "max_window_layers": 0}),
    "qwen2-late-window": (transformers.Qwen2Config, {**LLAMA, **WINDOW, "max_window_layers": 3}),
    "Qwen3ForCausalLM": (transformers.Qwen3Config, {**LLAMA, "head_dim": 16}),
    "GPT2LMHeadModel": (transformers.GPT2Config, GPT2),
}
STRETCHED = {"factor": 8.0, "original_max_position_embeddings": 64}
ROPES: dict[str, dict[str, Any]] = {
    "linear": {"factor": 4.0},
    "llama3": {**STRETCHED, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "yarn": STRETCHED,
    "yarn-sharper": {
        **STRETCHED,
        "rope_type": "yarn",
        "beta_fast": 20.0,
        "beta_slow": 2.0,
        "attention_factor": 1.3,
    },
    "yarn-scaled": {**STRETCHED, "rope_type": "yarn", "mscale": 1.2, "mscale_all_dim": 0.7, "truncate": False},
}
CHECKPOINTS |= {
    f"llama-{name}": (
        transformers.LlamaConfig,
        {**LLAMA, "rope_parameters": {"rope_type": name, "rope_theta": 900.0, **rope}},
    )
    for name, rope in ROPES.items()
}
LLAMAS = [name for name in CHECKPOINTS if name != "GPT2LMHeadModel"]


def saved(kind: str, directory: Path) -> tuple[transformers.PreTrainedModel, CausalLM]:
    """The reference with random weights, and our model loaded from what it saved."""
    torch.manual_seed(7)
    config_class, values = CHECKPOINTS[kind]
    reference = transformers.AutoModelForCausalLM.from_config(
        config_class(**values, attn_implementation="eager", bos_token_id=1, eos_token_id=2)
    ).eval()
    for parameter in reference.parameters():  # default biases are zero and norms one: they would hide mistakes
        parameter.data += torch.randn_like(parameter) * 0.1
    reference.save_pretrained(directory)
    config = reference.config.to_dict()
    manifest = Manifest(
        name="tiny",
        version=1,
        tasks=("generation.generate",),
        architecture=config["architectures"][0],
        config=config,
        runner="engine",
    )
    return reference, registry.load(manifest, directory)
