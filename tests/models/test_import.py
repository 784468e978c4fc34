"""Checkpoints saved by the reference library, imported by `maas models import`, loaded by the services' nets."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers

from cli import pulling
from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore

VOCABULARY = 64


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def save(directory: Path, model: Any, **how: Any) -> Path:
    """`model` as the reference library saves it, with a tokenizer beside it."""
    model.save_pretrained(directory, **how)
    tokenizer = Tokenizer(models.WordLevel({str(i): i for i in range(VOCABULARY)}, unk_token="0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


def imported(root: Path, source: Path) -> tuple[ModelStore, Manifest]:
    store = ModelStore(root / "store")
    return store, pulling.import_model(store, root / "cache", str(source), "net", {"licence": "MIT"})


def net(area: str, store: ModelStore, manifest: Manifest) -> Any:
    return import_module(f"services.{area}.models.registry").load(manifest, store.directory(manifest))


def llama() -> Any:
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, rope_theta=5000.0, tie_word_embeddings=False,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def gpt2() -> Any:
    config = transformers.GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    return transformers.GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize("how", [{}, {"max_shard_size": "20KB"}], ids=["one file", "shards"])
@pytest.mark.parametrize("build", [llama, gpt2])
def test_a_language_model_keeps_every_weight(tmp_path: Path, build: Any, how: dict[str, Any]) -> None:
    reference = build()
    source = save(tmp_path / "in", reference, **how)
    assert (len(list(source.glob("*.safetensors"))) > 1) is bool(how)
    store, manifest = imported(tmp_path, source)
    assert manifest.limits == {"max_tokens": 64} and manifest.runner == "engine"
    found = load_file(store.directory(manifest) / "model.safetensors")
    wanted = reference.state_dict()
    assert set(wanted) - set(found) <= {"lm_head.weight"}
    assert all(torch.equal(found[key], wanted[key]) for key in found)
    net("generation", store, manifest)


def test_a_bert_encoder_answers_as_the_reference(tmp_path: Path) -> None:
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48
    )
    reference = transformers.BertModel(config).eval()
    store, manifest = imported(tmp_path, save(tmp_path / "in", reference))
    assert manifest.outputs[0].shape == (-1, -1, 32)
    ids = torch.randint(0, VOCABULARY, (2, 9))
    mask, types = torch.ones_like(ids), torch.zeros_like(ids)
    with torch.inference_mode():
        wanted = reference(input_ids=ids, attention_mask=mask, token_type_ids=types)
        hidden, pooled = net("sequence", store, manifest)(ids, mask, types)
    torch.testing.assert_close(hidden, wanted.last_hidden_state, atol=1e-4, rtol=0)
    torch.testing.assert_close(pooled, wanted.pooler_output, atol=1e-4, rtol=0)
