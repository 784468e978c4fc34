"""Integrated gradients against integrals done by hand."""

from collections.abc import AsyncIterator

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn

from services.runtime.attribution import Function, StraightPath, integrate, spans
from services.runtime.device import DeviceThread
from services.runtime.turns import Turn, Turns


@pytest.fixture
async def turn() -> AsyncIterator[Turn]:
    torch.set_num_threads(1)
    device = DeviceThread("attribution")
    with Turns(device, 1).take(None) as turn:
        yield turn
    device.close()


def path(function: Function, *inputs: float) -> StraightPath:
    return StraightPath(function, torch.zeros(1, len(inputs)), torch.tensor([inputs]))


@pytest.mark.parametrize(("steps", "most"), [(50, 4), (1, 4), (8, 4), (7, 3), (500, 16), (3, 5)])
def test_spans_cover_a_straight_rise_evenly(steps: int, most: int) -> None:
    found = spans(steps, most, np.linspace(0, 1, 17), np.linspace(3, -2, 17))
    assert found[0][0] == 0 and found[-1][1] == 1
    assert [stop for _, stop, _ in found[:-1]] == [start for start, _, _ in found[1:]]
    assert sum(size for *_, size in found) == steps and max(size for *_, size in found) <= most
    assert all(stop - start == pytest.approx(size / steps) for start, stop, size in found)


@pytest.mark.parametrize("heights", [[1, 1, 1], [0, np.inf, 0], [np.nan, 0, 1]])
def test_nothing_known_of_the_heights_means_even_spans(heights: list[float]) -> None:
    assert spans(4, 2, np.array([0, 0.5, 1]), np.array(heights)) == [(0, 0.5, 2), (0.5, 1, 2)]


def test_spans_are_short_where_the_rise_is() -> None:
    heights = np.array([0, 0, 8, 8, 8])
    found = spans(16, 1, np.linspace(0, 1, 5), heights)
    inside = [span for span in found if span[0] >= 0.25 and span[1] <= 0.5]
    assert len(inside) >= 12


async def test_a_linear_function_is_shared_out_exactly(turn: Turn) -> None:
    found = await integrate(path(lambda x: x @ torch.tensor([2.0, -1, 0]), 3.0, 5, 7), 3, 2, turn)
    np.testing.assert_allclose(found.values, [6, -5, 0], atol=1e-5)
    assert found.delta < 1e-5


async def test_a_product_is_halved_between_its_factors(turn: Turn) -> None:
    # ∫₀¹ ∂(xy)/∂x(tx, ty)·x dt = xy/2
    found = await integrate(path(lambda rows: rows[:, 0] * rows[:, 1], 3.0, 4.0), 8, 4, turn)
    np.testing.assert_allclose(found.values, [6, 6], rtol=1e-5)


async def test_what_stays_where_it_is_gets_nothing_even_without_a_slope(turn: Turn) -> None:
    found = await integrate(path(lambda x: x[:, 0] + torch.sqrt(x[:, 1].square()), 2.0, 0.0), 4, 2, turn)
    assert found.values.tolist() == [pytest.approx(2), 0]


async def test_one_step_of_a_bend_misses_and_says_by_how_much(turn: Turn) -> None:
    # ReLU(x − 3) from 0 to 4 rises by 1; at the middle it is flat
    found = await integrate(path(lambda x: torch.relu(x[:, 0] - 3), 4.0), 1, 4, turn)
    assert (found.values.tolist(), found.delta) == ([0.0], 1.0)


@pytest.mark.parametrize("width", [1e-2, 1e-4, 1e-5])
async def test_a_leap_is_found_however_narrow(turn: Turn, width: float) -> None:
    def leap(rows: Tensor) -> Tensor:
        return torch.sigmoid((rows[:, 0].double() - 0.3) / width) + rows[:, 1] / 2

    found = await integrate(path(leap, 1.0, 1.0), 200, 8, turn)
    np.testing.assert_allclose(found.values, [1, 0.5], atol=0.05)
    assert found.delta == pytest.approx(abs(found.values.sum() - 1.5), abs=1e-4)


async def test_a_step_without_a_slope_is_admitted(turn: Turn) -> None:
    found = await integrate(path(lambda rows: (rows[:, 0] > 0.3) + 0 * rows[:, 0], 1.0), 50, 8, turn)
    assert (found.values.tolist(), found.delta) == ([0], 1)


async def test_spans_agree_with_captum_in_one_go_and_sum_to_the_rise(turn: Turn) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1)).requires_grad_(False)
    inputs, baseline = torch.randn(1, 6), torch.randn(1, 6)

    def function(rows: Tensor) -> Tensor:
        return net(rows)[:, 0]

    found = await integrate(StraightPath(function, baseline, inputs), 50, 7, turn)
    whole = IntegratedGradients(function).attribute(inputs, baselines=baseline, n_steps=50)
    np.testing.assert_allclose(found.values, whole[0].detach().numpy(), atol=1e-5)
    assert found.values.sum() == pytest.approx(float(net(inputs) - net(baseline)), abs=1e-4)
    assert found.delta < 1e-4
