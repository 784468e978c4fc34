"""Adapters: nothing at first, alone in what they learn, and merged into the very same function."""

import pytest
import torch
from torch import nn

from services.generation.models import registry
from tests.engine.tiny import CONFIG, GPT2_CONFIG, tiny_model
from training.checkpoint import load_trained, trained_state
from training.lora import Lora, adapt, merged_state

CONFIGS = {"LlamaForCausalLM": CONFIG, "GPT2LMHeadModel": GPT2_CONFIG}
TOKENS = torch.arange(24).view(2, 12)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Products this small are slower on two."""
    torch.set_num_threads(1)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_trained_adapter_merges_into_the_same_function(architecture: str) -> None:
    model = tiny_model(architecture=architecture)
    before, frozen = model(TOKENS), {name: value.clone() for name, value in model.state_dict().items()}
    adapt(model, rank=4, alpha=8)
    torch.testing.assert_close(model(TOKENS), before, atol=0, rtol=0)
    trained = {name.split(".")[-1] for name, value in model.named_parameters() if value.requires_grad}
    assert trained == {"down", "up"}
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], 0.5)
    for _ in range(3):
        optimizer.zero_grad()
        model(TOKENS).square().mean().backward()
        optimizer.step()
    after = model(TOKENS)
    assert (after - before).abs().max() > 0.01
    merged = merged_state(model)
    assert merged.keys() == frozen.keys()
    plain = registry.build(architecture, CONFIGS[architecture])
    plain.load_state_dict(merged)
    torch.testing.assert_close(plain(TOKENS), after, atol=1e-4, rtol=1e-5)
    kept = {name.replace(".base.", "."): value for name, value in model.state_dict().items()}
    assert all(torch.equal(kept[name], value) for name, value in frozen.items())


def test_every_linear_layer_of_a_block_is_adapted_and_nothing_else() -> None:
    model = tiny_model()
    adapt(model, rank=2, alpha=2)
    adapted = {name.split(".")[-1] for name, module in model.named_modules() if isinstance(module, Lora)}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    plain = [name for name, m in model.named_modules() if type(m) is nn.Linear and not name.endswith(".base")]
    assert plain == ["lm_head"]


def test_a_model_without_adapters_keeps_its_state() -> None:
    model = tiny_model()
    state = merged_state(model)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_a_checkpoint_holds_the_adapters_alone() -> None:
    model = tiny_model()
    size = sum(value.numel() for value in model.state_dict().values())
    adapt(model, rank=2, alpha=4)
    for name, value in model.named_parameters():
        if name.endswith(".up"):
            torch.nn.init.normal_(value.data)
    kept = {name: value.clone() for name, value in trained_state(model).items()}
    assert {name.split(".")[-1] for name in kept} == {"down", "up"}
    assert sum(value.numel() for value in kept.values()) < size / 2
    fresh = tiny_model()
    adapt(fresh, rank=2, alpha=4)
    assert not torch.equal(fresh(TOKENS), model(TOKENS))
    load_trained(fresh, kept)
    assert torch.equal(fresh(TOKENS), model(TOKENS))
