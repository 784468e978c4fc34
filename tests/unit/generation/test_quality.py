"""What a precision costs, by its definition; weights rounded to few bits; rounding that compensates its errors."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from services.generation import quality
from services.generation.kernels import compensated
from services.generation.kernels.calibration import Walk
from services.generation.models.causal_lm import CausalLM
from services.generation.models.plain import PlainLM
from services.generation.rounding import GROUP, grouped, rounded
from tests.engine.test_kernels import net_of
from tests.engine.tiny import VOCAB, tiny_model

LENGTH, CONTEXT = 150, 40


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def text() -> list[int]:
    return torch.randint(VOCAB, (LENGTH,), generator=torch.Generator().manual_seed(4)).tolist()


def logs(net: CausalLM, ids: list[int]) -> Tensor:
    """[LENGTH − 1, VOCAB]: row after row of CONTEXT, each from nothing."""
    rows = [ids[at : at + CONTEXT] for at in range(0, LENGTH - 1, CONTEXT)]
    rows[-1] = ids[len(ids[:-1]) // CONTEXT * CONTEXT : -1]
    return torch.cat([net(torch.tensor([row]))[0].double().log_softmax(-1) for row in rows])


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "GPT2LMHeadModel"])
def test_costs_are_what_they_are_defined_to_be(architecture: str) -> None:
    exact, ids = tiny_model(1, architecture), text()
    coarse = rounded(tiny_model(1, architecture), 4)
    told: list[tuple[int, int | None]] = []
    runners = [quality.reference(net, CONTEXT) for net in (exact, coarse)]
    first, second = quality.costs(runners, ids, CONTEXT, lambda done, of: told.append((done, of)))
    truth = torch.tensor(ids[1:])
    p, q = logs(exact, ids), logs(coarse, ids)
    assert first.perplexity == pytest.approx(math.exp(F.nll_loss(p, truth)), rel=1e-4)
    assert second.perplexity == pytest.approx(math.exp(F.nll_loss(q, truth)), rel=1e-4)
    assert (first.divergence, first.max_logprob_error) == (0, 0)
    assert second.divergence == pytest.approx(
        float(F.kl_div(q, p, log_target=True, reduction="batchmean")), rel=1e-3
    )
    gaps = (p - q).gather(1, truth[:, None]).abs()
    assert second.max_logprob_error == pytest.approx(float(gaps.max()), rel=1e-3)
    assert second.divergence > 1e-3 and told[-1] == (LENGTH - 1, LENGTH - 1)


def test_fewer_bits_cost_more() -> None:
    runners = [
        quality.reference(net, CONTEXT) for net in (tiny_model(), *(rounded(tiny_model(), b) for b in (8, 4, 3)))
    ]
    costs = [cost.divergence for cost in quality.costs(runners, text(), CONTEXT)]
    assert costs == sorted(costs) and costs[1] < costs[2] / 10


def test_a_group_has_its_own_scale_and_as_many_steps_as_its_bits_give() -> None:
    weight = torch.randn(5, 2 * GROUP + 7) * torch.logspace(-3, 3, 2 * GROUP + 7)
    weight[0, :GROUP] = 0
    found = grouped(weight, 4)
    for row, was in zip(found, weight, strict=True):
        for at in range(0, len(row), GROUP):
            part, before = row[at : at + GROUP], was[at : at + GROUP]
            step = before.abs().max() / 7
            assert torch.all((part - before).abs() <= step / 2 * 1.001)
            assert len(part.unique()) <= 15


def test_compensated_rounding_changes_products_less_than_rounding_to_nearest() -> None:
    torch.manual_seed(0)
    weight = torch.randn(48, 160)
    given = torch.randn(400, 160) * torch.rand(160) ** 3 @ torch.randn(160, 160)
    scale = weight.abs().amax(1, keepdim=True) / 127
    found = compensated.rounded(weight, scale, given)
    assert torch.equal(found, found.round()) and found.abs().max() <= 127

    def error(bytes_: Tensor) -> float:
        return float(((bytes_ * scale - weight) @ given.T).square().mean())

    assert error(found) < error((weight / scale).round()) / 2


def test_compensation_without_anything_in_common_is_rounding_to_nearest() -> None:
    weight = torch.randn(8, 16)
    scale = weight.abs().amax(1, keepdim=True) / 127
    assert torch.equal(compensated.rounded(weight, scale, torch.eye(16)), (weight / scale).round())
    assert torch.isfinite(compensated.rounded(weight, scale, torch.zeros(3, 16))).all()


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3", "gpt2"])
def test_the_walk_gives_each_product_what_the_net_gives_it(kind: str) -> None:
    net = net_of(kind)
    form, ids = PlainLM(net), torch.randint(100, (120,))
    walk = Walk(form, ids)
    for layer in form.layers():
        walk.through(layer)
    found = F.linear(walk.norm(), form.head.weight, form.head.bias)
    torch.testing.assert_close(found, net(ids[None])[0], atol=2e-3, rtol=2e-3)
