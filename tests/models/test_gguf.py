"""Whole GGUF files of every architecture and mixed types, written by the gguf package, imported, and compared with
`transformers` on the values that the package reads back."""

from itertools import cycle
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from gguf import quants

from cli import pulling
from services.generation.models import registry
from services.generation.models.causal_lm import CausalLM
from services.runtime.errors import InvalidInput
from services.runtime.store.store import ModelStore
from tests.unit.runtime.store.gguf_made import Q, random_data

Arrays = dict[str, np.ndarray]
LAYERS, CONTEXT = 2, 64
KINDS = (Q.Q4_K, Q.Q6_K, Q.F16, Q.Q5_0, Q.Q3_K, Q.Q8_0, Q.Q5_K, Q.Q2_K, Q.Q4_1, Q.IQ4_NL, Q.BF16, Q.Q5_1, Q.IQ4_XS)
LLAMA = {
    "vocab_size": 96, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT,
}  # fmt: skip
GPT2 = {"vocab_size": 96, "n_embd": 256, "n_layer": LAYERS, "n_head": 4, "n_positions": CONTEXT}
STRETCH = {"rope_theta": 700.0, "factor": 4.0, "original_max_position_embeddings": 16}
LINEAR, YARN = ({"rope_type": kind, **STRETCH} for kind in ("linear", "yarn"))
LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, **STRETCH}
NETS: dict[str, tuple[str, Any]] = {
    "llama": ("llama", transformers.LlamaConfig(**LLAMA, rope_parameters={"rope_theta": 700.0})),
    "llama-3": ("llama", transformers.LlamaConfig(**LLAMA, rope_parameters=LLAMA3, tie_word_embeddings=True)),
    "llama-linear": ("llama", transformers.LlamaConfig(**LLAMA, rope_parameters=LINEAR)),
    "llama-yarn": ("llama", transformers.LlamaConfig(**LLAMA, rope_parameters=YARN)),
    "qwen2": ("qwen2", transformers.Qwen2Config(**LLAMA, tie_word_embeddings=True)),
    "qwen3": ("qwen3", transformers.Qwen3Config(**LLAMA, head_dim=128)),
    "gpt2": ("gpt2", transformers.GPT2Config(**GPT2)),
}  # fmt: skip


def reference(config: Any) -> Any:
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def gguf_names(architecture: str, net: Any) -> dict[str, str]:
    """The net's names → the names that the package gives them."""
    names = gguf.get_tensor_name_map({v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[architecture], LAYERS)
    found = {name: names.get_name(name, (".weight", ".bias")) for name in net.state_dict()}
    if net.config.tie_word_embeddings:
        del found["lm_head.weight"]
    return {name: place for name, place in found.items() if place}


def interleaved(rows: int, heads: int) -> np.ndarray:
    """Where the rows of a Llama's q or k come from: rotary pairs (i, i + d/2) made neighbours."""
    return np.arange(rows).reshape(heads, 2, -1).swapaxes(1, 2).ravel()


def order(architecture: str, name: str, config: Any, rows: int) -> Any:
    """The rows of a tensor as the file has them."""
    if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
        return interleaved(rows, config.num_attention_heads if "q_proj" in name else config.num_key_value_heads)
    return slice(None)


def fill(architecture: str, net: Any, writer: gguf.GGUFWriter) -> None:
    """Random tensors of every type in turn into the file, and what they mean into the net."""
    kinds, state = cycle(KINDS), net.state_dict()
    for seed, (name, place) in enumerate(gguf_names(architecture, net).items()):
        shape = state[name].shape
        turned = architecture == "gpt2" and place.startswith("blk") and len(shape) == 2
        kind = next(kinds) if len(shape) == 2 else Q.F32
        stored = tuple(reversed(shape)) if turned else tuple(shape)
        data = random_data(kind, stored if len(stored) == 2 else (1, *stored), 0.1, seed)
        values = quants.dequantize(data, kind).reshape(stored)
        writer.add_tensor(place, data.reshape(stored) if len(stored) == 1 else data, raw_dtype=kind)
        rows = np.empty_like(values)
        rows[order(architecture, name, net.config, len(rows))] = values
        state[name].copy_(torch.from_numpy(rows.T.copy() if turned else rows))


def describe(architecture: str, config: Any, writer: gguf.GGUFWriter) -> None:
    """The metadata that llama.cpp's converter writes."""
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(256)
    writer.add_block_count(LAYERS)
    writer.add_head_count(4)
    if architecture == "gpt2":
        writer.add_feed_forward_length(1024)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    writer.add_feed_forward_length(512)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if architecture == "qwen3":
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    stretch(config.rope_parameters, writer)


def stretch(rope: dict[str, Any], writer: gguf.GGUFWriter) -> None:
    """Scaling by name and factor; Llama 3's as one divisor a frequency, as the converter works them out."""
    kind = rope.get("rope_type", "default")
    if kind == "llama3":
        scaled, _ = transformers.modeling_rope_utils._compute_llama3_parameters(NETS["llama-3"][1])
        plain = 1 / 700.0 ** (torch.arange(0, 64, 2) / 64)
        writer.add_tensor("rope_freqs.weight", (plain / scaled).numpy(), raw_dtype=Q.F32)
    elif kind != "default":
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


def speak(writer: gguf.GGUFWriter, pre: str = "gpt-2") -> None:
    """A tokenizer of single characters."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([*map(chr, range(0x21, 0x7E)), "!#", "<a>", "<b>"])
    writer.add_token_types([1] * 94 + [3, 3])
    writer.add_token_merges(["! #"])
    writer.add_eos_token_id(95)


def published(kind: str, root: Path) -> tuple[Any, CausalLM, Any]:
    """(the reference, our net, the manifest) of one written file."""
    architecture, config = NETS[kind]
    net, writer = reference(config), gguf.GGUFWriter(root / "net.gguf", architecture)
    describe(architecture, config, writer)
    speak(writer)
    fill(architecture, net, writer)
    writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file()
    writer.close()
    store = ModelStore(root / "store")
    manifest = pulling.import_model(store, root / "cache", str(root / "net.gguf"), "net", {"licence": "MIT"})
    return net, registry.load(manifest, store.directory(manifest)), manifest


@pytest.mark.parametrize("kind", NETS)
def test_an_imported_file_answers_as_the_reference(kind: str, tmp_path: Path) -> None:
    net, ours, manifest = published(kind, tmp_path)
    assert (manifest.architecture, manifest.runner) == (type(net).__name__, "engine")
    assert manifest.limits == {"max_tokens": CONTEXT}
    assert manifest.tokenizer is not None and manifest.tokenizer.eos_token == "<b>"
    tokens = torch.randint(0, 96, (2, CONTEXT))
    with torch.no_grad():
        expected, found = net(tokens).logits, ours(tokens)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=2e-4)


def test_an_unknown_architecture_and_a_stray_tensor_are_named(tmp_path: Path) -> None:
    for architecture, tensor, said in (
        ("mamba", "token_embd.weight", "llama, qwen2, qwen3, gpt2"),
        ("qwen2", "blk.0.ssm_a.weight", r"blk\.0\.ssm_a\.weight"),
    ):
        path = tmp_path / f"{architecture}.gguf"
        writer = gguf.GGUFWriter(path, architecture)
        describe(architecture, NETS["qwen2"][1], writer)
        speak(writer)
        for name in dict.fromkeys(("token_embd.weight", tensor)):
            writer.add_tensor(name, np.zeros((96, 256), np.float32))
        writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file()
        writer.close()
        with pytest.raises(InvalidInput, match=said):
            pulling.import_model(ModelStore(tmp_path / "store"), tmp_path, str(path), "net", {"licence": "MIT"})
