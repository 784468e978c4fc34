"""Makes a GGUF file of a Llama checkpoint, without its vocabulary: `python -m … CHECKPOINT FILE PRECISION`."""

import json
import sys
from pathlib import Path
from typing import Any

import gguf
import llama_cpp as llama
import numpy as np
from safetensors.numpy import load_file

PRECISIONS = {"q8_0": llama.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": llama.LLAMA_FTYPE_MOSTLY_Q4_0}
LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
OTHERS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def rename(name: str) -> str:
    """`model.layers.3.mlp.up_proj.weight` → `blk.3.ffn_up.weight`."""
    stem = name.removesuffix(".weight")
    if stem in OTHERS:
        return f"{OTHERS[stem]}.weight"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{LAYER[part]}.weight"


def interleave(weight: Any, heads: int) -> Any:
    """Rows of a projection from rotary halves to rotary pairs, which is how the format has them."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write(checkpoint: Path, path: Path) -> None:
    """The checkpoint in half precision, norms in single."""
    config = json.loads((checkpoint / "config.json").read_text())
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads["attn_q"])
    writer.add_head_count_kv(heads["attn_k"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    for name, weight in load_file(checkpoint / "model.safetensors").items():
        called = rename(name)
        kind = called.split(".")[-2]
        shaped = interleave(weight, heads[kind]) if kind in heads else weight
        writer.add_tensor(called, np.ascontiguousarray(shaped, np.float32 if weight.ndim == 1 else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    checkpoint, path, precision = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    half = path.with_suffix(".f16")
    write(checkpoint, half)
    how = llama.llama_model_quantize_default_params()
    how.ftype, how.nthread = PRECISIONS[precision], 2
    failed = llama.llama_model_quantize(str(half).encode(), str(path).encode(), how)
    half.unlink()
    if failed:
        raise SystemExit("llama_model_quantize failed")


if __name__ == "__main__":
    main()
