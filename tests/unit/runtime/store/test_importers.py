"""Importers against tiny files made on the spot; the gguf package's own writer and dequantiser are the oracle."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from services.runtime.errors import InvalidInput
from services.runtime.store.importers import gguf as gguf_importer
from services.runtime.store.importers import (
    gguf_file,
    gguf_quants,
    hf_directory,
    npz,
    state_dict,
    tokenizer_file,
)
from services.runtime.store.importers.inputs import in_directory
from services.runtime.store.importers.table import importer_for

HEADS, KV_HEADS, HEAD, WIDTH = 4, 2, 8, 32
Q = gguf.GGMLQuantizationType
TOKENS = [chr(0x21 + i) for i in range(60)] + ["#$"]


def write_gguf(directory: Path, tensors: dict, architecture: str = "llama") -> Path:
    path = directory / "model.gguf"
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_feed_forward_length(64)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HEAD)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(TOKENS)
    writer.add_token_merges(["# $"])
    writer.add_token_types([3] + [1] * (len(TOKENS) - 1))
    writer.add_bos_token_id(0)
    writer.add_chat_template("{{ messages }}")
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file()
    writer.close()
    return path


def test_gguf_import_gives_hugging_face_names_and_rotary_order(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    shapes = {
        "token_embd": (len(TOKENS), WIDTH),
        "output_norm": (WIDTH,),
        "blk.0.attn_q": (HEADS * HEAD, WIDTH),
        "blk.0.attn_k": (KV_HEADS * HEAD, WIDTH),
        "blk.0.attn_v": (KV_HEADS * HEAD, WIDTH),
        "blk.0.attn_output": (WIDTH, WIDTH),
        "blk.0.attn_norm": (WIDTH,),
        "blk.0.ffn_norm": (WIDTH,),
        "blk.0.ffn_gate": (64, WIDTH),
        "blk.0.ffn_up": (64, WIDTH),
        "blk.0.ffn_down": (WIDTH, 64),
    }
    arrays = {f"{name}.weight": random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    path = write_gguf(tmp_path, {name: (array, Q.F32) for name, array in arrays.items()})
    out = tmp_path / "out"
    out.mkdir()
    fields = gguf_importer.run({"model.gguf": path}, out, {})
    weights = load_file(out / "model.safetensors")
    layer = "model.layers.0."
    assert sorted(weights) == sorted(
        ["model.embed_tokens.weight", "model.norm.weight"]
        + [f"{layer}self_attn.{part}_proj.weight" for part in "qkvo"]
        + [f"{layer}mlp.{part}_proj.weight" for part in ("gate", "up", "down")]
        + [f"{layer}{norm}_layernorm.weight" for norm in ("input", "post_attention")]
    )
    interleaved = arrays["blk.0.attn_q.weight"].reshape(HEADS, HEAD, WIDTH)
    halves = weights[f"{layer}self_attn.q_proj.weight"].reshape(HEADS, HEAD, WIDTH)
    np.testing.assert_array_equal(halves[:, : HEAD // 2], interleaved[:, 0::2])
    np.testing.assert_array_equal(halves[:, HEAD // 2 :], interleaved[:, 1::2])
    np.testing.assert_array_equal(weights[f"{layer}self_attn.v_proj.weight"], arrays["blk.0.attn_v.weight"])
    config = fields["config"]
    assert (config["rms_norm_eps"], config["head_dim"], config["num_key_value_heads"]) == (1e-5, HEAD, KV_HEADS)
    assert config["tie_word_embeddings"] is True and config["vocab_size"] == len(TOKENS)
    assert fields["tokenizer"]["chat_template"] == "{{ messages }}" and fields["tokenizer"]["bos_token"] == "!"
    assert (out / "tokenizer.json").is_file()


def test_gguf_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    plain = {"token_embd.weight": (np.zeros((4, WIDTH), np.float32), Q.F32)}
    path = write_gguf(tmp_path, plain, architecture="mamba")
    with pytest.raises(InvalidInput, match="'mamba'"):
        gguf_importer.run({"model.gguf": path}, tmp_path, {})
    whole = path.read_bytes()
    for cut in (0, 3, 20, len(whole) // 2, len(whole) - 8):
        path.write_bytes(whole[:cut])
        with pytest.raises(InvalidInput):
            gguf_file.read(path, gguf_quants.SIZES)


def test_npz_keeps_names_and_refuses_objects(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.ones(2, np.int64)}
    np.savez(tmp_path / "m.npz", **arrays)
    fields = npz.run({"m.npz": tmp_path / "m.npz"}, tmp_path, {"labels": ["x", "y"]})
    loaded = load_file(tmp_path / "model.safetensors")
    assert all(np.array_equal(loaded[key], arrays[key]) for key in arrays) and loaded.keys() == arrays.keys()
    assert fields == {"labels": "labels.txt"} and (tmp_path / "labels.txt").read_text() == "x\ny\n"
    np.savez(tmp_path / "evil.npz", a=np.array([Boom()], dtype=object))
    with pytest.raises(InvalidInput, match="plain arrays"):
        npz.run({"evil.npz": tmp_path / "evil.npz"}, tmp_path, {})


class Boom:
    """Unpickling this is a failed test."""

    def __reduce__(self) -> tuple:
        return pytest.fail, ("a pickle was run",)


def test_state_dict_takes_plain_wrapped_and_tied_tensors(tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    torch.save({"state_dict": {"net.a": shared, "net.b": shared.T, "other.c": torch.ones(1)}}, tmp_path / "m.pt")
    state_dict.run({"m.pt": tmp_path / "m.pt"}, tmp_path, {"select": "net."})
    loaded = load_file(tmp_path / "model.safetensors")
    assert loaded.keys() == {"net.a", "net.b"}
    np.testing.assert_array_equal(loaded["net.b"], shared.T.numpy())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_state_dict_of_a_torchscript_archive(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 3)
    torch.jit.script(module).save(str(tmp_path / "m.jit"))
    state_dict.run({"m.jit": tmp_path / "m.jit"}, tmp_path, {})
    np.testing.assert_array_equal(
        load_file(tmp_path / "model.safetensors")["weight"], module.weight.detach().numpy()
    )


@pytest.mark.parametrize("content", ["module", "pickle", "list", "junk", "empty"])
def test_state_dict_refuses_everything_else(tmp_path: Path, content: str) -> None:
    path = tmp_path / "m.pt"
    if content == "module":
        torch.save(torch.nn.Linear(1, 1), path)
    elif content == "list":
        torch.save([torch.ones(1)], path)
    else:
        path.write_bytes({"pickle": pickle.dumps(Boom()), "junk": b"junk", "empty": b""}[content])
    with pytest.raises(InvalidInput, match=r"m\.pt"):
        state_dict.run({"m.pt": path}, tmp_path, {})
    assert not (tmp_path / "model.safetensors").exists()


def hf_files(directory: Path, architecture: str = "LlamaForCausalLM", **config: object) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    content = {"architectures": [architecture], "hidden_size": 8, "max_position_embeddings": 16, **config}
    (directory / "config.json").write_text(json.dumps(content))
    (directory / "tokenizer.json").write_text("{}")
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": "{{ x }}"})
    )
    return directory


def test_hugging_face_directory_with_one_file(tmp_path: Path) -> None:
    source = hf_files(tmp_path / "in", rope_theta=1e4, _name_or_path="x")
    save_file({"w": np.ones(3, np.float32)}, source / "model.safetensors")
    (tmp_path / "out").mkdir()
    fields = hf_directory.run(in_directory(source), tmp_path / "out", {})
    assert fields["tasks"] == ["generation.generate", "tokenization.tokenize"] and fields["runner"] == "engine"
    assert fields["config"] == {"hidden_size": 8, "max_position_embeddings": 16, "rope_theta": 1e4}
    spec = fields["tokenizer"]
    assert (spec["bos_token"], spec["eos_token"], spec["chat_template"]) == ("<s>", "</s>", "{{ x }}")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()


def test_hugging_face_shards_are_merged(tmp_path: Path) -> None:
    source = hf_files(tmp_path / "in", "BertForSequenceClassification", id2label={"1": "no", "0": "yes"})
    save_file({"a": np.ones(3, np.float32)}, source / "one.safetensors")
    save_file({"b": np.zeros(2, np.float32)}, source / "two.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    fields = hf_directory.run(in_directory(source), tmp_path, {})
    assert load_file(tmp_path / "model.safetensors").keys() == {"a", "b"}
    assert (tmp_path / "labels.txt").read_text() == "yes\nno\n" and fields["outputs"][0]["shape"] == [-1, 2]
    (source / "two.safetensors").unlink()
    with pytest.raises(InvalidInput, match=r"two\.safetensors"):
        hf_directory.run(in_directory(source), tmp_path, {})


def test_hugging_face_pickle_is_converted_only_if_it_holds_tensors(tmp_path: Path) -> None:
    source = hf_files(tmp_path / "in")
    torch.save({"w": torch.ones(2)}, source / "pytorch_model.bin")
    hf_directory.run(in_directory(source), tmp_path, {})
    assert load_file(tmp_path / "model.safetensors").keys() == {"w"}
    (source / "pytorch_model.bin").write_bytes(pickle.dumps({"w": Boom()}))
    with pytest.raises(InvalidInput, match=r"pytorch_model\.bin"):
        hf_directory.run(in_directory(source), tmp_path, {})


def test_hugging_face_refusals_name_the_file(tmp_path: Path) -> None:
    source = hf_files(tmp_path / "in", "T5ForConditionalGeneration")
    with pytest.raises(InvalidInput, match="T5"):
        hf_directory.run(in_directory(source), tmp_path, {})
    hf_files(source)
    with pytest.raises(InvalidInput, match=r"model\.safetensors"):
        hf_directory.run(in_directory(source), tmp_path, {})
    (source / "model.safetensors").write_bytes(b"\x80\x02junk-junk-junk")
    with pytest.raises(InvalidInput, match="not a safetensors file"):
        hf_directory.run(in_directory(source), tmp_path, {})


def test_tokenizer_files_of_three_kinds(tmp_path: Path) -> None:
    (tmp_path / "in.model").write_bytes(b"proto")
    (tmp_path / "in.json").write_text("{}")
    model = tokenizer_file.run({"tokenizer.model": tmp_path / "in.model"}, tmp_path, {})
    assert (
        model["tokenizer"]["kind"] == "sentencepiece" and (tmp_path / "tokenizer.model").read_bytes() == b"proto"
    )
    assert (
        tokenizer_file.run({"t.json": tmp_path / "in.json"}, tmp_path, {})["tokenizer"]["file"] == "tokenizer.json"
    )
    (tmp_path / "r.tiktoken").write_text("YQ== 0\nYg== 1\nYWI= 2\n")
    special = {"special_tokens": {"<end>": 3}}
    tokenizer_file.run({"r.tiktoken": tmp_path / "r.tiktoken"}, tmp_path, special)
    vocabulary = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    assert vocabulary["ab"] == 2


def test_the_importer_follows_from_the_names(tmp_path: Path) -> None:
    cases = {"m.gguf": "gguf", "m.npz": "npz", "m.pth": "state_dict", "t.model": "tokenizer_file"}
    assert {name: importer_for({name: tmp_path}) for name in cases} == cases
    assert importer_for({"config.json": tmp_path, "model.safetensors": tmp_path}) == "hf_directory"
    with pytest.raises(InvalidInput, match="no importer fits"):
        importer_for({"model.exe": tmp_path})


def test_a_zip_that_is_not_torchscript_is_a_checkpoint(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x/data.pkl", b"")
    (tmp_path / "m.pt").write_bytes(buffer.getvalue())
    assert not state_dict.is_torchscript(tmp_path / "m.pt")
