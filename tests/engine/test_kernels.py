"""The eight-bit kernels against torch over random shapes, on every instruction set this machine has."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from services.generation.engine.request import Sequence
from services.generation.engine.runner import Computed
from services.generation.engine.step import Chunk, Step
from services.generation.kernels import build, packing
from services.generation.kernels.native import SETS
from services.generation.models import registry
from services.generation.models.attention import DenseAttention
from services.generation.models.causal_lm import CausalLM
from services.generation.models.layers import rotate
from services.generation.models.plain import Affine, PlainLayer, PlainLM
from services.runtime.compiled import NoCompiler
from tests.engine.tiny import CONFIG, GPT2_CONFIG, Int8, sequence

LENGTH = 70
YARN = {"rope_type": "yarn", "rope_theta": 900.0, "factor": 4.0, "original_max_position_embeddings": 32}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", CONFIG),
    "multi-query": (
        "LlamaForCausalLM",
        {**CONFIG, "num_attention_heads": 14, "num_key_value_heads": 1, "head_dim": 32},
    ),
    "wide head": ("LlamaForCausalLM", {**CONFIG, "head_dim": 64, "tie_word_embeddings": True, "vocab_size": 101}),
    "mistral": ("MistralForCausalLM", {**CONFIG, "sliding_window": 24}),
    "stretched": ("LlamaForCausalLM", {**CONFIG, "rope_parameters": YARN}),
    "qwen2": ("Qwen2ForCausalLM", CONFIG),
    "qwen3": ("Qwen3ForCausalLM", {**CONFIG, "head_dim": 96}),
    "gpt2": ("GPT2LMHeadModel", GPT2_CONFIG),
}


def sets() -> list[str]:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    needed = {"avx512": "avx512_vnni", "avx2": "avx2", "portable": ""}
    return [name for name in SETS if needed[name] in flags]


def net_of(kind: str, seed: int = 3) -> CausalLM:
    torch.manual_seed(seed)
    net = registry.build(*SHAPES[kind]).eval().requires_grad_(False)
    for parameter in net.parameters():  # biases of zero and norms of one would hide mistakes
        parameter.data += torch.randn_like(parameter) * 0.1
    return net


def fake(x: Tensor) -> Tensor:
    """x [rows, size] as its eight bits hold it."""
    scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-30) / 127
    return (x / scale).round() * scale


class Plain:
    """The plain form in torch, by its definition: exact, or rounded to eight bits where the kernels round."""

    def __init__(self, net: CausalLM, eight_bits: bool) -> None:
        self.form, self.config, self.rounds = PlainLM(net), net.config, eight_bits

    def logits(self, tokens: Tensor) -> Tensor:
        form, positions = self.form, torch.arange(len(tokens))
        table = form.embedding if form.places is None else form.embedding[tokens] + form.places[positions]
        x = table[tokens] if form.places is None else table
        if self.rounds:
            first, second = form.embedding.bfloat16().float()[tokens], form.places
            x = first if second is None else first + second.bfloat16().float()[positions]
        for layer in form.layers():
            x = x + self.linear(self.attention(self.linear(self.norm(x), layer.qkv), layer, positions), layer.out)
            x = x + self.down(self.activation(self.linear(self.norm(x), layer.up)), layer.down)
        return self.linear(self.norm(x), form.head)

    def norm(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), eps=self.config.norm_eps)

    def linear(self, x: Tensor, affine: Affine) -> Tensor:
        if self.rounds:
            return F.linear(fake(x), fake(affine.weight), affine.bias)
        return F.linear(x, affine.weight, affine.bias)

    def down(self, x: Tensor, affine: Affine) -> Tensor:
        if not self.rounds:
            return self.linear(x, affine)
        block = packing.spread_block(x.shape[-1])
        spread = Affine(packing.spread(affine.weight, block) / block, affine.bias)
        return self.linear(packing.spread(x, block), spread)

    def activation(self, x: Tensor) -> Tensor:
        if not self.form.gated:
            return F.gelu(x, approximate="tanh")
        gate, up = x.chunk(2, -1)
        return F.silu(gate) * up

    def attention(self, x: Tensor, layer: PlainLayer, positions: Tensor) -> Tensor:
        config, width = self.config, self.config.head_dim
        sizes = [config.num_attention_heads * width, *[config.num_key_value_heads * width] * 2]
        q, k, v = (part.view(len(x), -1, width) for part in x.split(sizes, -1))
        if layer.q_norm is not None:
            q, k = (F.rms_norm(h, (width,), w, config.norm_eps) for h, w in ((q, layer.q_norm), (k, layer.k_norm)))
        if self.form.angles is not None:
            cosine, sine = (table[positions].unsqueeze(1) for table in self.form.angles)
            q, k = rotate(q, cosine, sine), rotate(k, cosine, sine)
        if self.rounds:
            k, v = fake(k), fake(v)
        return DenseAttention(1, config.sliding_window)(0, q, k, v)


def prompt(length: int = LENGTH) -> list[int]:
    return np.random.default_rng(5).integers(0, 101, length).tolist()


def served(int8: Int8, tokens: list[int], cuts: list[int]) -> tuple[Tensor, Tensor]:
    """Hidden states and logits of one sequence, computed in passes of so many tokens."""
    runner = int8.runner(num_blocks=16)
    one: Sequence = sequence(tokens)
    one.blocks = [3, 9, 1, 12, 5, 2, 8][: -(-len(tokens) // 16)]
    parts, start = [], 0
    for count in cuts:
        parts.append(runner.run(Step((Chunk(one, start, count),))).hidden[:count].clone())
        start += count
    hidden = torch.cat(parts)
    rows = runner.logits(Computed((), (), hidden), range(len(hidden)))
    logits = torch.stack([row.logits for row in rows])
    assert [row.peak for row in rows] == logits.max(-1).values.tolist()
    assert [row.best for row in rows] == logits.argmax(-1).tolist()
    assert torch.allclose(torch.tensor([row.log_sum for row in rows]), logits.logsumexp(-1), atol=1e-5, rtol=1e-6)
    runner.close()
    return hidden, logits


@pytest.mark.parametrize("kind", SHAPES)
def test_the_plain_form_is_the_net(kind: str) -> None:
    net, tokens = net_of(kind), torch.tensor(prompt())
    expected = net(tokens.unsqueeze(0))[0]
    assert torch.allclose(Plain(net, False).logits(tokens), expected, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("isa", sets())
@pytest.mark.parametrize("kind", SHAPES)
def test_the_kernels_compute_the_plain_form_in_eight_bits(kind: str, isa: str, tmp_path: Path) -> None:
    net, tokens = net_of(kind), prompt()
    int8 = Int8.of(net, tmp_path)
    _, found = served(Int8(int8.packed, int8.net, isa=isa), tokens, [LENGTH])
    rounded, exact = (Plain(net, rounds).logits(torch.tensor(tokens)) for rounds in (True, False))
    # A value between two steps takes the other one where floats are added up in another order, and from then on
    # both go their own ways, as far apart as rounding has moved either: only the first row is the same.
    assert torch.allclose(found[0], rounded[0], atol=1e-4, rtol=1e-4)
    moved = (rounded - exact).abs().mean()
    assert (found - rounded).abs().mean() < moved
    assert (found - exact).abs().mean() < 1.3 * moved


@pytest.mark.parametrize("isa", sets())
@pytest.mark.parametrize(("kind", "layer"), [("llama", "gate_proj"), ("gpt2", "c_fc")])
def test_activations_far_from_zero_are_what_they_are(kind: str, layer: str, isa: str, tmp_path: Path) -> None:
    net, tokens = net_of(kind), prompt()
    for name, parameter in net.named_parameters():
        if name.endswith(f"{layer}.weight"):
            parameter.data *= 100  # e^x of some inputs leaves what a float holds
    int8 = Int8.of(net, tmp_path)
    _, found = served(Int8(int8.packed, int8.net, isa=isa), tokens, [LENGTH])
    exact = Plain(net, False).logits(torch.tensor(tokens))
    assert (found - exact).abs().mean() < 0.05 * exact.std()


@pytest.mark.parametrize("isa", sets())
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_passes_of_any_length_and_any_threads_give_the_same_bits(isa: str, threads: int, tmp_path: Path) -> None:
    int8 = Int8.of(net_of("mistral"), tmp_path)
    expected, logits = served(Int8(int8.packed, int8.net, isa=isa), prompt(), [LENGTH])
    other = Int8(int8.packed, int8.net, threads, isa)
    for cuts in ([1] * LENGTH, [13, 1, 20, 16, 20], [LENGTH - 1, 1]):
        hidden, found = served(other, prompt(), cuts)
        assert torch.equal(hidden, expected)
        assert torch.equal(found, logits)


def test_instruction_sets_that_fuse_products_and_sums_agree_to_the_bit(tmp_path: Path) -> None:
    fusing = [isa for isa in sets() if isa != "portable"]
    if len(fusing) < 2:
        pytest.skip("this processor has one of them")
    int8 = Int8.of(net_of("llama"), tmp_path)
    first, second = (served(Int8(int8.packed, int8.net, isa=isa), prompt(), [LENGTH])[1] for isa in fusing)
    assert torch.equal(first, second)


def test_panels_hold_every_weight_where_the_kernels_look() -> None:
    values = np.arange(64 * 8, dtype=np.int64).reshape(64, 8).astype(np.int8)
    packed = packing.panels(values)
    assert packed.shape == (2, 2, 2, 16, 4)
    for row, column in ((0, 0), (17, 3), (40, 5), (63, 7)):
        assert packed[row // 32, column // 4, row % 32 // 16, row % 16, column % 4] == values[row, column]


def test_without_a_compiler_or_with_a_bad_one_the_reason_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoCompiler, match="no absent-c"):
        build.library(tmp_path / "kernels", "absent-c++")
    with pytest.raises(NoCompiler, match="false -std"):
        build.library(tmp_path / "kernels", "false")
    assert not list((tmp_path / "kernels").iterdir())
