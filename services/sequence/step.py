"""Runs of frames → scores and next state, many streams side by side. Knows no session, no proto, no queue."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.runtime.runners.base import Array
from services.runtime.runners.samples import batch_axis
from services.runtime.store.manifest import TensorSpec
from services.sequence.models.encode import Floats
from services.sequence.models.net import NEXT, Net, State


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Consecutive frames [T, F] of one stream, T ≥ 1, and the state they start from."""

    frames: Floats
    state: State


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """Scores [T, K] of a run and the state after it."""

    scores: Floats
    state: State


def predict_runs(net: Net, runs: Sequence[Run]) -> list[Heard]:
    """One answer a run, in order."""
    # Longest first: the streams still going are always the first rows.
    order = sorted(range(len(runs)), key=lambda index: -len(runs[index].frames))
    answers = dict(zip(order, _side_by_side(net, [runs[index] for index in order]), strict=True))
    return [answers[index] for index in range(len(runs))]


def _side_by_side(net: Net, runs: Sequence[Run]) -> list[Heard]:
    state = _stack(net, runs)
    steps: list[Array] = []
    ended: list[State] = []
    for step in range(len(runs[0].frames)):
        going = sum(len(run.frames) > step for run in runs)
        ended = _leaving(net, state, going, len(runs) - len(ended)) + ended
        scores, state = _step(net, np.stack([run.frames[step] for run in runs[:going]]), _first(net, state, going))
        steps.append(scores)
    ended = _leaving(net, state, 0, len(runs) - len(ended)) + ended
    return [
        Heard(np.stack([scores[row] for scores in steps[: len(run.frames)]]), ended[row])
        for row, run in enumerate(runs)
    ]


def _step(net: Net, frames: Floats, state: State) -> tuple[Array, State]:
    """One step of every row: scores [B, K] and the state of the next."""
    outputs = net.runner.run({net.manifest.inputs[0].name: frames, **state})
    return outputs[net.manifest.outputs[0].name], {s.name: outputs[NEXT + s.name] for s in net.state_specs}


def _stack(net: Net, runs: Sequence[Run]) -> State:
    return {s.name: np.concatenate([run.state[s.name] for run in runs], _axis(s)) for s in net.state_specs}


def _first(net: Net, state: State, count: int) -> State:
    return {s.name: _rows(state[s.name], s, 0, count) for s in net.state_specs}


def _leaving(net: Net, state: State, start: int, stop: int) -> list[State]:
    """States of rows [start, stop), copied so that none keeps the whole batch alive."""
    return [
        {s.name: _rows(state[s.name], s, row, row + 1).copy() for s in net.state_specs}
        for row in range(start, stop)
    ]


def _rows(array: Array, spec: TensorSpec, start: int, stop: int) -> Array:
    """Rows [start, stop) of a state array, wherever its batch axis is."""
    cut: tuple[slice, ...] = (*[slice(None)] * _axis(spec), slice(start, stop))
    return array[cut]


def _axis(spec: TensorSpec) -> int:
    return batch_axis(spec) or 0
