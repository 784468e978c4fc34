"""The BERT nets against `transformers` on random weights, and MiniLM against published values."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest
from services.sequence.models import registry

CONFIG = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
    "num_labels": 3,
}
IDS = torch.tensor([[2, 5, 9, 17, 3, 0, 0], [2, 98, 4, 8, 16, 32, 3]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]])
TYPES = torch.tensor([[0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1]])


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def reference(architecture: str) -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(7)
    config = transformers.BertConfig(**CONFIG, attn_implementation="eager")
    module = getattr(transformers, architecture)(config).eval()
    for parameter in module.parameters():  # the library's 0.02 would hide mistakes in biases and norms
        torch.nn.init.normal_(parameter, std=0.3)
    return module


def published(module: Any, directory: Path) -> Manifest:
    module.save_pretrained(directory)
    name = type(module).__name__
    return Manifest(name="random", version=1, tasks=("sequence.embed",), architecture=name, config=CONFIG)


def test_encoder_agrees_with_the_reference_on_padded_rows(tmp_path: Path) -> None:
    theirs = reference("BertModel")
    ours = registry.load(published(theirs, tmp_path), tmp_path)
    with torch.inference_mode():
        hidden, pooled = ours(IDS, MASK, TYPES)
        wanted = theirs(input_ids=IDS, attention_mask=MASK, token_type_ids=TYPES)
    real = MASK.bool()
    torch.testing.assert_close(hidden[real], wanted.last_hidden_state[real], atol=1e-4, rtol=0)
    torch.testing.assert_close(pooled, wanted.pooler_output, atol=1e-4, rtol=0)


def test_classifier_agrees_with_the_reference(tmp_path: Path) -> None:
    theirs = reference("BertForSequenceClassification")
    ours = registry.load(published(theirs, tmp_path), tmp_path)
    with torch.inference_mode():
        (logits,) = ours(IDS, MASK, TYPES)
        wanted = theirs(input_ids=IDS, attention_mask=MASK, token_type_ids=TYPES).logits
    torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=0)


def test_padding_changes_no_row() -> None:
    torch.manual_seed(3)
    module = registry.build("BertModel", CONFIG)
    with torch.inference_mode():
        together = module(IDS, MASK, TYPES)[0][0, :5]
        alone = module(IDS[:1, :5], MASK[:1, :5], TYPES[:1, :5])[0][0]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_another_activation_is_refused() -> None:
    with pytest.raises(PreconditionFailed, match="hidden_act"):
        registry.build("BertModel", {**CONFIG, "hidden_act": "relu"})


def test_unknown_architecture_names_the_known_ones() -> None:
    with pytest.raises(PreconditionFailed, match="silero_vad"):
        registry.build("ResNet", {})


@pytest.mark.models
def test_minilm_golden_values(model_store: Any) -> None:
    manifest = model_store.resolve("minilm-l6-v2", "")
    module = registry.load(manifest, model_store.directory(manifest))
    ids = torch.tensor([[101, 1037, 2158, 2003, 5983, 2833, 1012, 102]])  # "A man is eating food."
    with torch.inference_mode():
        hidden = module(ids, torch.ones_like(ids), torch.zeros_like(ids))[0]
    vector = torch.nn.functional.normalize(hidden.mean(dim=1), dim=-1)[0, :5]
    np.testing.assert_allclose(vector, [0.0332, 0.0044, -0.0063, 0.0484, -0.1387], atol=1e-4)
