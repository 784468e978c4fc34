"""A GGUF language model → float32 safetensors under Hugging Face names, tokenizer and manifest fields.

llama.cpp stores q and k for interleaved rotary pairs (2i, 2i+1); they are put back into the half-split
order (i, i + d/2) that Hugging Face's Llama, and so ours, rotates.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from services.runtime.errors import InvalidInput
from services.runtime.store.importers.gguf_file import GgufTensor, read
from services.runtime.store.importers.gguf_quants import SIZES, dequantise
from services.runtime.store.importers.inputs import Files, only

NAMES = {
    r"^token_embd\.": "model.embed_tokens.",
    r"^output_norm\.": "model.norm.",
    r"^output\.": "lm_head.",
    r"^blk\.(\d+)\.": r"model.layers.\1.",
    r"\.attn_norm\.": ".input_layernorm.",
    r"\.ffn_norm\.": ".post_attention_layernorm.",
    r"\.attn_output\.": ".self_attn.o_proj.",
    r"\.attn_([qkv])\.": r".self_attn.\1_proj.",
    r"\.ffn_(gate|up|down)\.": r".mlp.\1_proj.",
}
CONFIG = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "intermediate_size": "feed_forward_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
    "max_position_embeddings": "context_length",
    "head_dim": "rope.dimension_count",
}


def run(files: Files, directory: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Write model.safetensors and tokenizer.json into `directory`; manifest fields. Llama family only."""
    from services.runtime.text.build import from_gguf, gguf_spec

    content = read(only(files, ".gguf"), SIZES)
    architecture = content.fields.get("general.architecture")
    if architecture != "llama":
        raise InvalidInput("file", f"GGUF architecture {architecture!r} is not convertible; 'llama' is")
    config = _config(content.fields, content.tensors)
    weights = {_name(tensor.name): _weights(tensor, config) for tensor in content.tensors}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    from_gguf(content.fields).save(str(directory / "tokenizer.json"))
    return {
        "architecture": "LlamaForCausalLM",
        "config": config,
        "tokenizer": gguf_spec(content.fields).model_dump(),
        "limits": {"max_tokens": config["max_position_embeddings"]},
    }


def _config(fields: Mapping[str, Any], tensors: list[GgufTensor]) -> dict[str, Any]:
    """Hugging Face's config.json keys out of the metadata; InvalidInput names a missing key."""
    required = [f"llama.{key}" for key in CONFIG.values() if key not in ("rope.freq_base", "rope.dimension_count")]
    missing = [key for key in required if key not in fields]
    if missing:
        raise InvalidInput("file", f"GGUF metadata lacks {', '.join(missing)}")
    found = {name: _shortest(fields[f"llama.{key}"]) for name, key in CONFIG.items() if f"llama.{key}" in fields}
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    return {
        "model_type": "llama",
        "hidden_act": "silu",
        "rope_theta": 10000.0,
        "head_dim": found["hidden_size"] // found["num_attention_heads"],
        **found,
        "vocab_size": shapes["token_embd.weight"][0],
        "tie_word_embeddings": "output.weight" not in shapes,
        "bos_token_id": fields.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": fields.get("tokenizer.ggml.eos_token_id"),
    }


def _shortest(value: Any) -> Any:
    """A float32 as the decimal it was written as: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _name(gguf_name: str) -> str:
    name = gguf_name
    for pattern, replacement in NAMES.items():
        name = re.sub(pattern, replacement, name)
    if name == gguf_name:
        raise InvalidInput("file", f"tensor {gguf_name} has no place in a Llama model")
    return name


def _weights(tensor: GgufTensor, config: Mapping[str, Any]) -> NDArray[np.float32]:
    values = dequantise(tensor)
    if ".attn_q." in tensor.name:
        return half_split(values, config["num_attention_heads"])
    if ".attn_k." in tensor.name:
        return half_split(values, config["num_key_value_heads"])
    return values


def half_split(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """[heads·d, …] rows from interleaved to half-split rotary order."""
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)
