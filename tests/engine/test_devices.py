"""The runner leaves nothing behind on the CPU: its passes on tensors without data of a device that is not the CPU,
where an operation on both fails, as does one that must know a number to go on."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)

from services.generation.engine.graphs import Forward
from services.generation.engine.kv_cache import KVCache
from services.generation.engine.request import Sequence
from services.generation.engine.row import Row
from services.generation.engine.runner import ModelRunner
from services.generation.engine.step import Chunk, Step
from services.generation.models import registry
from tests.engine.test_adapters import adapter_of, changes_of
from tests.engine.test_kernels import SHAPES
from tests.engine.tiny import sequence

# Not "cuda": without CUDA in it this torch makes such tensors, but takes no view of one.
ELSEWHERE = torch.device("meta")
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LLAMA, LLAMA_CONFIG = SHAPES["llama"]
NETS = {
    "llama": (LLAMA, LLAMA_CONFIG),
    "stretched": (LLAMA, {**LLAMA_CONFIG, "rope_scaling": YARN}),
    "window": ("MistralForCausalLM", {**LLAMA_CONFIG, "sliding_window": 20}),
    "qwen3": SHAPES["qwen3"],
    "gpt2": SHAPES["gpt2"],
}


@pytest.fixture(autouse=True)
def elsewhere() -> Iterator[None]:
    with FakeTensorMode():
        yield


def as_it_is(forward: Forward) -> Forward:
    return forward


def placed(length: int, first: int) -> Sequence:
    one = sequence([1] * length)
    one.blocks = list(range(first, first + 1 + length // 16))
    return one


def made(kind: str, dtype: torch.dtype, cache_on: torch.device = ELSEWHERE) -> ModelRunner:
    net = registry.build(*NETS[kind]).eval().requires_grad_(False)
    net.load_state_dict(
        {name: value.to(ELSEWHERE, dtype) for name, value in net.state_dict().items()}, assign=True
    )
    return ModelRunner(net, KVCache(net.config, 32, 16, dtype, cache_on), as_it_is)


def everywhere(hidden: Tensor, dtype: torch.dtype) -> bool:
    return isinstance(hidden, FakeTensor) and hidden.device == ELSEWHERE and hidden.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", NETS)
def test_prompts_decodes_and_replays_stay_on_the_device(kind: str, dtype: torch.dtype) -> None:
    runner, ones = made(kind, dtype), [placed(90, 1), placed(20, 10), placed(7, 13)]
    prompts = runner.run(Step(tuple(Chunk(one, 0, len(one.tokens) - 1) for one in ones)))
    mixed = runner.run(Step((Chunk(ones[0], 80, 9), Chunk(ones[1], 19, 1))))
    replayed = runner.run(Step(tuple(Chunk(one, len(one.tokens) - 1, 1) for one in ones)))
    assert all(everywhere(computed.hidden, dtype) for computed in (prompts, mixed, replayed))
    runner.copy_block(1, 2)


def test_adapters_follow() -> None:
    runner = made("llama", torch.bfloat16)
    here = registry.build(*NETS["llama"])
    ones = [placed(20, 1), sequence([1] * 20, adapter=adapter_of(runner, changes_of(here, 1)))]
    ones[1].blocks = [4, 5]
    assert everywhere(runner.run(Step(tuple(Chunk(one, 0, 20) for one in ones))).hidden, torch.bfloat16)


def test_logits_are_made_on_the_device_up_to_the_three_numbers_of_a_row() -> None:
    runner = made("llama", torch.bfloat16)
    computed = runner.run(Step((Chunk(placed(20, 1), 0, 20),)))
    with pytest.raises(DataDependentOutputException, match="_local_scalar_dense"):  # tolist()
        runner.logits(computed, [3, 19])


def test_a_row_comes_to_the_cpu_when_it_is_asked_for() -> None:
    row = Row(torch.zeros(2, 5, device=ELSEWHERE), 1, 0, 0.0, 0.0)
    assert row.table.device == ELSEWHERE and row.logits.device.type == "cpu"


def test_a_tensor_left_on_the_cpu_is_found() -> None:
    runner = made("llama", torch.float32)
    runner.model.norm.weight = torch.nn.Parameter(torch.ones(LLAMA_CONFIG["hidden_size"]))
    with pytest.raises(RuntimeError, match="meta and cpu"):
        runner.run(Step((Chunk(placed(9, 1), 0, 9),)))


def test_a_shape_that_numbers_decide_is_found() -> None:
    with pytest.raises(DynamicOutputShapeException, match="nonzero"):
        made("llama", torch.float32, torch.device("cpu")).run(Step((Chunk(placed(9, 1), 0, 9),)))
