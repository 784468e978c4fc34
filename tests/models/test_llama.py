"""The Llama family against `transformers` on random weights."""

from pathlib import Path

import pytest
import torch

from services.generation.models import registry
from services.runtime.errors import PreconditionFailed
from tests.models.generation_checkpoints import LLAMA, LLAMAS, WINDOW, saved


@pytest.mark.parametrize("kind", LLAMAS)
def test_dense_logits_agree_with_transformers(kind: str, tmp_path: Path) -> None:
    reference, ours = saved(kind, tmp_path)
    tokens = torch.randint(0, 128, (2, 60))
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), reference(tokens).logits, atol=1e-4, rtol=1e-4)


def test_gradients_reach_every_weight() -> None:
    model = registry.build("LlamaForCausalLM", LLAMA)
    model(torch.randint(0, 128, (2, 9))).square().mean().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.parameters())


@pytest.mark.parametrize(
    ("architecture", "config", "named"),
    [
        ("NoSuchModel", LLAMA, "LlamaForCausalLM"),
        ("LlamaForCausalLM", {"vocab_size": 3}, "num_attention_heads"),
        ("LlamaForCausalLM", {**LLAMA, "rope_scaling": {"rope_type": "dynamic"}}, "dynamic"),
        ("LlamaForCausalLM", {**LLAMA, "num_key_value_heads": 4}, "multiple"),
        ("Qwen2ForCausalLM", {**LLAMA, **WINDOW, "max_window_layers": 1}, "full_attention, sliding_attention"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(architecture: str, config: dict, named: str) -> None:
    with pytest.raises(PreconditionFailed, match=named):
        registry.build(architecture, config)
