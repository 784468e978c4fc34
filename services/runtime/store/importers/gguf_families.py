"""What GGUF calls the parts of each architecture, and the order it keeps their rows in. Knows no file format."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Config = Mapping[str, Any]


def as_stored(part: str, values: Floats, config: Config) -> Floats:
    """Qwen's rotary order is ours already."""
    return values


def half_split_heads(part: str, values: Floats, config: Config) -> Floats:
    """llama.cpp stores Llama's q and k for interleaved rotary pairs (2i, 2i+1); they are put back into the
    half-split order (i, i + d/2) that Hugging Face's Llama, and so ours, rotates."""
    heads = config["num_attention_heads"]
    if part == "attn_q":
        return half_split(values, heads)
    return half_split(values, config.get("num_key_value_heads") or heads) if part == "attn_k" else values


def half_split(rows: Floats, heads: int) -> Floats:
    """[heads·d, …] rows from interleaved to half-split rotary order."""
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def inputs_first(part: str, values: Floats, config: Config) -> Floats:
    """GPT-2's checkpoints hold the matrices of a block as [in, out]; GGUF turned them round."""
    turned = part in GPT2_TURNED and values.ndim == 2
    return np.ascontiguousarray(values.T) if turned else values


@dataclass(frozen=True, slots=True)
class Family:
    """`names`: GGUF's part, without the block's number → our module, with {} for it. `required`, `optional`:
    config key → metadata key after "<GGUF architecture>."; `fixed`: config that holds unless the file says
    otherwise; `context`: the config key of the longest context."""

    architecture: str
    names: Mapping[str, str]
    required: dict[str, str]
    optional: dict[str, str]
    fixed: dict[str, Any]
    reorder: Callable[[str, Floats, Config], Floats] = as_stored
    context: str = "max_position_embeddings"


LLAMA_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "blk.attn_norm": "model.layers.{}.input_layernorm",
    "blk.ffn_norm": "model.layers.{}.post_attention_layernorm",
    "blk.attn_output": "model.layers.{}.self_attn.o_proj",
    **{f"blk.attn_{part}": f"model.layers.{{}}.self_attn.{part}_proj" for part in "qkv"},
    **{f"blk.ffn_{part}": f"model.layers.{{}}.mlp.{part}_proj" for part in ("gate", "up", "down")},
}
HEAD_NORMS = {f"blk.attn_{part}_norm": f"model.layers.{{}}.self_attn.{part}_norm" for part in "qk"}
LLAMA_REQUIRED = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "intermediate_size": "feed_forward_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "max_position_embeddings": "context_length",
}
LLAMA_OPTIONAL = {
    "num_key_value_heads": "attention.head_count_kv",
    "rope_theta": "rope.freq_base",
    "head_dim": "rope.dimension_count",
    "sliding_window": "attention.sliding_window",
}
GPT2_NAMES = {
    "token_embd": "wte",
    "position_embd": "wpe",
    "output_norm": "ln_f",
    "output": "lm_head",
    "blk.attn_norm": "h.{}.ln_1",
    "blk.attn_qkv": "h.{}.attn.c_attn",
    "blk.attn_output": "h.{}.attn.c_proj",
    "blk.ffn_norm": "h.{}.ln_2",
    "blk.ffn_up": "h.{}.mlp.c_fc",
    "blk.ffn_down": "h.{}.mlp.c_proj",
}
GPT2_TURNED = ("attn_qkv", "attn_output", "ffn_up", "ffn_down")
GPT2_REQUIRED = {
    "n_embd": "embedding_length",
    "n_layer": "block_count",
    "n_head": "attention.head_count",
    "n_positions": "context_length",
    "layer_norm_epsilon": "attention.layer_norm_epsilon",
}


LLAMA = Family(
    "LlamaForCausalLM",
    LLAMA_NAMES,
    LLAMA_REQUIRED,
    LLAMA_OPTIONAL,
    {"model_type": "llama", "hidden_act": "silu", "rope_theta": 10000.0},
    half_split_heads,
)
QWEN2 = replace(
    LLAMA, architecture="Qwen2ForCausalLM", fixed=LLAMA.fixed | {"model_type": "qwen2"}, reorder=as_stored
)
QWEN3 = replace(
    QWEN2,
    architecture="Qwen3ForCausalLM",
    names=LLAMA_NAMES | HEAD_NORMS,
    optional=LLAMA_OPTIONAL | {"head_dim": "attention.key_length"},
    fixed=LLAMA.fixed | {"model_type": "qwen3"},
)
GPT2 = Family(
    "GPT2LMHeadModel",
    GPT2_NAMES,
    GPT2_REQUIRED,
    {"n_inner": "feed_forward_length"},
    {"model_type": "gpt2"},
    inputs_first,
    "n_positions",
)
FAMILIES: Mapping[str, Family] = {"llama": LLAMA, "qwen2": QWEN2, "qwen3": QWEN3, "gpt2": GPT2}
