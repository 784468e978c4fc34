"""How far a forecast may stray: paths that meet the errors of the past again, and their quantiles. No torch.

Residual bootstrap (Efron 1979; for forecasts Hyndman & Athanasopoulos, Forecasting, 3rd ed., 5.5): a version keeps
its one-step errors on steps that it was not fitted to; each step of a path is the net's own plus one of them, fed
back, so that errors add up over the horizon. Draws are balanced (Davison, Hinkley & Schechtman 1986): among the
paths of a step every error is met equally often. The seed is fixed: equal questions have equal answers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest
from services.sequence.models.encode import Floats
from services.sequence.models.net import Net

FILE, KEY = "residuals.safetensors", "residuals"
LEAST_PATHS = 400
LEAST_RESIDUALS, MOST_RESIDUALS = 10, 400
SEED = 0

Draws = NDArray[np.uint16]


@dataclass(frozen=True, slots=True, eq=False)
class Stray:
    """Some paths' standard scores [P, W, F], and the error [P, F] that each meets in its next step."""

    windows: Floats
    errors: Floats


def save(errors: Floats, directory: Path) -> None:
    """Keeps one-step errors [N, F] in standard scores, if they are enough to tell quantiles from."""
    if len(errors) >= LEAST_RESIDUALS:
        save_file({KEY: np.ascontiguousarray(errors)}, directory / FILE)


def kept(count: int) -> NDArray[np.intp]:
    """Which of `count` errors in the order of time are kept: all, evenly apart if they are many, none of few."""
    some = min(count, MOST_RESIDUALS) if count >= LEAST_RESIDUALS else 0
    return np.linspace(0, count - 1, some).round().astype(np.intp)


def load(manifest: Manifest, directory: Path) -> Floats | None:
    """The errors float32 [N, F] that a version keeps, if it does. PreconditionFailed if they cannot be its own."""
    if FILE not in manifest.files:
        return None
    errors = load_file(directory / FILE).get(KEY, np.empty(0))
    width = manifest.outputs[0].shape[-1]
    fits = errors.ndim == 2 and errors.shape[1] == width and LEAST_RESIDUALS <= len(errors) <= MOST_RESIDUALS
    if not (fits and errors.dtype == np.float32 and np.isfinite(errors).all()):
        raise PreconditionFailed(f"{FILE} of {manifest.name} holds no errors [N, {width}]; publish it anew")
    return errors


def count_paths(residuals: int) -> int:
    """The least multiple of `residuals` that is enough for quantiles."""
    return residuals * -(-LEAST_PATHS // residuals)


def draw(residuals: int, steps: int) -> Draws:
    """Which error each path meets in each step, [steps, paths]; those of fewer steps are the first rows."""
    paths = count_paths(residuals)
    balanced = np.resize(np.arange(residuals, dtype=np.uint16), (steps, paths))
    return np.random.default_rng(SEED).permuted(balanced, axis=1)


def moved(windows: Floats, following: Floats, errors: Floats) -> Floats:
    """Windows [P, W, F] one step on: what the net says follows [P, F], and the error met."""
    return np.concatenate([windows[:, 1:], (following + errors)[:, None]], axis=1)


def predict_strayed(net: Net, parts: Sequence[Stray]) -> list[Floats]:
    """The windows of each part one step on, all parts side by side."""
    windows = np.concatenate([part.windows for part in parts])
    following = net.runner.run({net.manifest.inputs[0].name: windows})[net.manifest.outputs[0].name]
    found = moved(windows, following, np.concatenate([part.errors for part in parts]))
    return np.split(found, np.cumsum([len(part.windows) for part in parts])[:-1])


def wander(step: Callable[[Floats], Floats], window: Floats, errors: Floats, steps: int) -> Floats:
    """Standard scores [steps, paths, F] after `window` [W, F]; `step` says what follows windows [P, W, F]."""
    drawn, found = draw(len(errors), steps), []
    windows = np.repeat(window[None], drawn.shape[1], axis=0)
    for rows in drawn:
        windows = moved(windows, step(windows), errors[rows])
        found.append(windows[:, -1])
    return np.stack(found)


def quantiles(paths: Floats, wanted: Sequence[float]) -> Floats:
    """Of [steps, paths, F]: [quantiles, steps, F] in the order of `wanted`. A higher one is nowhere lower."""
    order = np.argsort(wanted, kind="stable")
    found = np.quantile(paths, np.asarray(wanted, np.float64)[order], axis=1).astype(np.float32)
    return np.maximum.accumulate(found)[np.argsort(order)]
