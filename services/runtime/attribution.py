"""Integrated gradients along a straight path, a span at a time. Knows no model, no picture and no text.

Sundararajan, Taly and Yan 2017 (arXiv:1703.01365): a_i = (x_i − b_i) ∫₀¹ ∂F/∂x_i (b + t(x − b)) dt. The
attributions sum to F(x) − F(b) (completeness). Being a line integral, it is the sum of the integrals over the
path's spans: each is Gauss-Legendre quadrature by captum.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import torch
from captum.attr import IntegratedGradients
from numpy.typing import NDArray
from torch import Tensor

from services.runtime.runners.base import Array
from services.runtime.turns import Turn

# one scalar a row: [N, …] → [N]
Function = Callable[[Tensor], Tensor]
Floats = NDArray[np.float64]

PROBES = 16  # even parts of the path whose rise is looked at first
DOMINANT = 0.25  # share of all movement within one part that makes it worth a closer look
LOOKS = 12
FINEST = 2.0**-22  # of the path: places closer than this are nearly the same in float32
EVEN = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """`values` float32, one for each input value; `delta` = |their sum − (F(x) − F(b))|, as F's unit."""

    values: Array
    delta: float


@dataclass(frozen=True, slots=True, eq=False)
class StraightPath:
    """From `baseline` to `inputs`, both [1, …], through the values of `function`."""

    function: Function
    baseline: Tensor
    inputs: Tensor

    def values(self, places: Sequence[float]) -> list[float]:
        """F at each of `places` of the path, 0 = baseline, 1 = inputs."""
        with torch.no_grad():
            found: list[float] = self.function(torch.cat([self._at(place) for place in places])).tolist()
        return found

    def attribute(self, start: float, stop: float, steps: int) -> Tensor:
        """Attributions [1, …] of the path from `start` to `stop`, 0 ≤ start < stop ≤ 1; `steps` rows at once."""
        found: Tensor = IntegratedGradients(self.function).attribute(
            self._at(stop), baselines=self._at(start), n_steps=steps, method="gausslegendre"
        )
        # what does not move along the path decides nothing, even where its slope is no number (√ at 0)
        return found.detach().masked_fill(self.inputs == self.baseline, 0)

    def _at(self, place: float) -> Tensor:
        return self.baseline + place * (self.inputs - self.baseline)


async def integrate(path: StraightPath, steps: int, rows: int, turn: Turn) -> Attribution:
    """All of `path` by `steps` gradients, at most `rows` of them in one turn. Raises DeadlinePassed between."""
    places, heights = await outline(path, steps, rows, turn)
    total = torch.zeros_like(path.inputs)
    for start, stop, count in spans(steps, rows, places, heights):
        total += await turn.run(path.attribute, start, stop, count)
    rise = heights[-1] - heights[0]
    return Attribution(total[0].cpu().numpy(), abs(float(total.double().sum() - rise)))


async def outline(path: StraightPath, steps: int, rows: int, turn: Turn) -> tuple[Floats, Floats]:
    """Places of the path and F there: even ones, and close ones around a leap that `steps` would step over.

    A recurrent net may leap within a thousandth of the path; even places tell only between which of them.
    """
    even = places = np.linspace(0, 1, PROBES + 1)
    parts = [places[first : first + rows].tolist() for first in range(0, len(places), rows)]
    known = heights = np.concatenate([await turn.run(path.values, part) for part in parts])
    for _ in range(LOOKS):
        moves = np.abs(np.diff(heights))
        part = int(moves.argmax())
        start, stop = places[part : part + 2]
        # not finite: no part is greater than a share of the sum
        if not moves[part] > DOMINANT * moves.sum() or stop - start < FINEST:
            break
        closer = np.linspace(start, stop, rows + 2)[1:-1]
        heights = np.insert(heights, part + 1, await turn.run(path.values, closer.tolist()))
        places = np.insert(places, part + 1, closer)
    leaps = np.diff(places).min() * PROBES * steps < 1
    return (places, heights) if leaps else (even, known)


def spans(steps: int, most: int, places: Floats, heights: Floats) -> list[tuple[float, float, int]]:
    """(start, stop, steps) of each span, at most `most` steps, together the path from 0 to 1.

    Nets do most of their rising on a small part of the path (Miglani et al. 2020, arXiv:2010.12697), where even
    steps miss nearly all of it. A span is the shorter the more F, known by its `heights` at `places`, moves
    there: EVEN of the steps are spread evenly, the rest by |ΔF|.
    """
    count = math.ceil(steps / most)
    sizes = [steps // count + (index < steps % count) for index in range(count)]
    shares = np.array([done / steps for done in accumulate(sizes, initial=0)])
    lengths, moves = np.diff(places), np.abs(np.diff(heights))
    if np.isfinite(moves.sum()) and moves.sum() > 0:
        lengths = EVEN * lengths + (1 - EVEN) * moves / moves.sum()
    ends = np.interp(shares, np.concatenate([[0], np.cumsum(lengths)]) / lengths.sum(), places).tolist()
    return [(start, stop, size) for (start, stop), size in zip(pairwise(ends), sizes, strict=True)]
