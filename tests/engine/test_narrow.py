"""The tiny net in bf16 and fp16 on the CPU: near the net in fp32, and the cache half as large."""

import pytest
import torch
from torch import Tensor

from services.generation.engine.kv_cache import KVCache, blocks_in
from services.generation.engine.runner import ModelRunner
from services.generation.engine.step import Chunk, Step
from tests.engine.test_adapters import adapter_of, changes_of, merged_net
from tests.engine.test_kernels import net_of, prompt
from tests.engine.tiny import make_engine, run, sequence

NARROW = [torch.bfloat16, torch.float16]
KINDS = ["llama", "qwen3", "gpt2"]


def narrow(kind: str, dtype: torch.dtype) -> ModelRunner:
    net = net_of(kind).to(dtype)
    return ModelRunner(net, KVCache(net.config, 32, 16, dtype))


def logits(runner: ModelRunner, cut: int, **fields: object) -> Tensor:
    """Of every token of the prompt, computed in two passes."""
    one = sequence(prompt(), **fields)
    one.blocks, found = list(range(1, 2 + len(one.tokens) // 16)), []
    for start, stop in ((0, cut), (cut, len(one.tokens))):
        computed = runner.run(Step((Chunk(one, start, stop - start),)))
        found += [row.logits.clone() for row in runner.logits(computed, range(stop - start))]
    return torch.stack(found)


def error(found: Tensor, exact: Tensor) -> float:
    assert found.dtype == torch.float32
    return float((found - exact).square().mean().sqrt() / exact.std())


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_as_near_to_fp32_as_the_net_without_a_cache(kind: str, dtype: torch.dtype) -> None:
    """That is torch's own attention in the same format: 1 % of the logits' deviation in bf16, 0.1 % in fp16."""
    tokens = torch.tensor([prompt()])
    exact, dense = net_of(kind)(tokens)[0], net_of(kind).to(dtype)(tokens)[0].float()
    assert 1e-4 < error(logits(narrow(kind, dtype), 50), exact) < 1.3 * error(dense, exact) < 0.015


@pytest.mark.parametrize("dtype", NARROW)
def test_with_an_adapter_too(dtype: torch.dtype) -> None:
    net, runner, tokens = net_of("llama"), narrow("llama", dtype), torch.tensor([prompt()])
    changes = changes_of(net, 1)
    exact = merged_net("llama", net, changes)(tokens)[0]
    dense = merged_net("llama", net, changes).to(dtype)(tokens)[0].float()
    assert error(logits(runner, 50, adapter=adapter_of(runner, changes)), exact) < 1.5 * error(dense, exact)


@pytest.mark.parametrize("dtype", NARROW)
def test_texts_begin_as_those_of_fp32(dtype: torch.dtype) -> None:
    prompts = [list(range(start, start + 20)) for start in range(0, 80, 8)]
    expected = run(make_engine(net_of("llama")), [sequence(one, max_tokens=3) for one in prompts])
    engine = make_engine(net_of("llama"), num_blocks=32)
    engine.runner = narrow("llama", dtype)
    found = run(engine, [sequence(one, max_tokens=3) for one in prompts])
    same = sum(one.tokens == other.tokens for one, other in zip(found, expected, strict=True))
    assert same >= 8, f"{same} of 10"


def test_a_cell_of_two_bytes_a_number_is_half_as_large() -> None:
    config = net_of("llama").config
    assert blocks_in(1 << 20, config, 16, torch.bfloat16) == 2 * blocks_in(1 << 20, config, 16)
    cache = KVCache(config, 8, 16, torch.bfloat16)
    sizes = {tensor.untyped_storage().nbytes() for tensor in (*cache.keys, *cache.values)}
    assert sizes == {8 * 16 * config.num_key_value_heads * config.head_dim * 2}
