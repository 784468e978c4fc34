"""Whether quantiles of a forecast hold: how often the truth lies below each. Knows no net and no units."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.sequence.models.spread import quantiles, wander

Scores = NDArray[np.float32]
Step = Callable[[Scores], Scores]  # windows [P, W, F] → what follows them [P, F]

QUANTILES = (0.1, 0.5, 0.9)
MOST_STEPS = 2000  # of paths of all origins: some seconds
METHOD = "residual bootstrap: one-step errors on validation rows, drawn balanced, fed back"


@dataclass(frozen=True, slots=True)
class Series:
    """A series in standard scores [T, F], the steps from which on it is foretold, and how many are looked at."""

    scores: Scores
    origins: range
    window: int


def coverage(step: Step, series: Series, horizons: Sequence[int], errors: Scores) -> dict[str, Any]:
    """For each horizon the share of true values at or below each quantile; {} of no `errors` [N, F].

    Far forecasts from neighbouring origins tell much the same: their shares are less certain than so many values
    seem to make them.
    """
    if not len(errors):
        return {}
    shares = {_named(ahead): _shares(step, series, ahead, errors) for ahead in sorted({*horizons})}
    return {"method": METHOD, "residuals": len(errors), **shares}


def _named(ahead: int) -> str:
    return "one_step" if ahead == 1 else f"{ahead}_steps"


def _shares(step: Step, series: Series, ahead: int, errors: Scores) -> dict[str, float]:
    origins = [at for at in series.origins if at + ahead <= len(series.scores)]
    some = np.linspace(0, len(origins) - 1, min(len(origins), max(1, MOST_STEPS // ahead))).round().astype(int)
    below = []
    for at in (origins[index] for index in some):
        paths = wander(step, series.scores[at - series.window : at], errors, ahead)
        below.append((series.scores[at : at + ahead] <= quantiles(paths, QUANTILES)).mean(axis=(1, 2)))
    told = zip(QUANTILES, np.mean(below, axis=0).tolist(), strict=True)
    return {**{f"{quantile:g}": share for quantile, share in told}, "origins": len(below)}
