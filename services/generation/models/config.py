"""The shape of a causal language model, read from a checkpoint's config keys. Knows no tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.generation.models.rope import Rope, rope
from services.runtime.errors import PreconditionFailed

CHUNK = 64  # keys that block attention takes at a time; KV block sizes divide it


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes and switches; `sliding_window` in tokens, None = full attention."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    norm_eps: float = 1e-5
    rope: Rope = field(default_factory=Rope)
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    qk_norm: bool = False
    sliding_window: int | None = None

    def __post_init__(self) -> None:
        if self.num_attention_heads % self.num_key_value_heads:
            raise PreconditionFailed("num_attention_heads must be a multiple of num_key_value_heads")


def llama_config(config: Mapping[str, Any], *, qkv_bias: bool = False, qk_norm: bool = False) -> ModelConfig:
    """From the keys of a Llama-shaped `config.json`. PreconditionFailed for an unknown rope."""
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    return ModelConfig(
        vocab_size=config["vocab_size"],
        hidden_size=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        num_hidden_layers=config["num_hidden_layers"],
        num_attention_heads=heads,
        num_key_value_heads=config.get("num_key_value_heads") or heads,
        head_dim=head_dim,
        max_position_embeddings=config["max_position_embeddings"],
        norm_eps=config.get("rms_norm_eps", 1e-6),
        rope=rope(config, head_dim),
        tie_word_embeddings=config.get("tie_word_embeddings", False),
        attention_bias=qkv_bias or config.get("attention_bias", False),
        qk_norm=qk_norm,
        sliding_window=_window(config),
    )


def qwen2_config(config: Mapping[str, Any]) -> ModelConfig:
    """Qwen2: biases on query, key and value; its window is off unless asked for."""
    return llama_config({"use_sliding_window": False, **config}, qkv_bias=True)


def qwen3_config(config: Mapping[str, Any]) -> ModelConfig:
    """Qwen3: query and key normalised per head."""
    return llama_config({"use_sliding_window": False, **config}, qk_norm=True)


def gpt2_config(config: Mapping[str, Any]) -> ModelConfig:
    """From the keys of a GPT-2 `config.json` (n_embd, n_layer, …)."""
    width, heads = config["n_embd"], config["n_head"]
    return ModelConfig(
        vocab_size=config["vocab_size"],
        hidden_size=width,
        intermediate_size=config.get("n_inner") or 4 * width,
        num_hidden_layers=config["n_layer"],
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=width // heads,
        max_position_embeddings=config["n_positions"],
        norm_eps=config.get("layer_norm_epsilon", 1e-5),
        tie_word_embeddings=config.get("tie_word_embeddings", True),
    )


def _window(config: Mapping[str, Any]) -> int | None:
    """One window for every layer, or none. Qwen2's begins at layer `max_window_layers`."""
    window, layers = config.get("sliding_window"), config["num_hidden_layers"]
    if window is None or not config.get("use_sliding_window", True):
        return None
    full = min(config.get("max_window_layers", 0), layers)
    kinds = set(config.get("layer_types") or ["full_attention"] * full + ["sliding_attention"] * (layers - full))
    if len(kinds) > 1:
        raise PreconditionFailed(f"layers of {', '.join(sorted(kinds))} in one model are not supported")
    return int(window) if kinds == {"sliding_attention"} else None
