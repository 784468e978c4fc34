"""Calls larger than a batch, cut into works that take turns with other callers'. Knows no proto."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from services.runtime.batcher import Outcome
from services.runtime.runners.base import Array
from services.sequence.loaded import Predict, SequenceModel, Work
from services.sequence.models.encode import Floats
from services.sequence.models.forecast import Ahead, predict_ahead
from services.sequence.models.predict import predict_rows
from services.sequence.models.spread import Draws, Stray, predict_strayed
from services.sequence.step import Heard, Run, predict_runs


async def answer_rows(
    model: SequenceModel, rows: Sequence[Array], predict: Predict = predict_rows
) -> Outcome[list[Array]]:
    """One answer a row, in order; at most one work of this call waits at a time."""
    answers: dict[int, Array] = {}
    spent: list[Outcome[Any]] = []
    for chosen in _portions(rows, model.budget):
        cost = sum(len(rows[index]) for index in chosen)
        spent.append(await model.compute(Work(predict, [rows[index] for index in chosen], cost)))
        answers.update(zip(chosen, spent[-1].value, strict=True))
    return total([answers[index] for index in range(len(rows))], spent)


async def listen(model: SequenceModel, streams: Sequence[Floats]) -> Outcome[list[Floats]]:
    """Scores [T, K] of each whole stream of frames [T, F], from fresh state."""
    states = [model.net.fresh_state() for _ in streams]
    scores: list[list[Floats]] = [[] for _ in streams]
    spent: list[Outcome[Any]] = []
    at, longest = 0, max(len(frames) for frames in streams)
    while at < longest:
        going = [index for index, frames in enumerate(streams) if len(frames) > at]
        count = max(1, model.budget // len(going))
        runs = [Run(streams[index][at : at + count], states[index]) for index in going]
        spent.append(await model.compute(Work(predict_runs, runs, sum(len(run.frames) for run in runs))))
        for index, heard in zip(going, spent[-1].value, strict=True):
            states[index] = heard.state
            scores[index].append(heard.scores)
        at += count
    return total([np.concatenate(parts) for parts in scores], spent)


async def foresee(model: SequenceModel, window: Floats, steps: int) -> Outcome[Floats]:
    """Standard scores [steps, F] that follow `window` [W, F]; a long horizon takes turns with other callers."""
    known, found = window, np.empty((0, window.shape[1]), np.float32)
    spent: list[Outcome[Any]] = []
    while len(found) < steps:
        count = min(steps - len(found), max(1, model.budget // len(window)))
        spent.append(await model.compute(Work(predict_ahead, [Ahead(known, count)], count * len(window))))
        found = np.concatenate([found, spent[-1].value[0]])
        known = np.concatenate([known, spent[-1].value[0]])[-len(window) :]
    return total(found, spent)


async def stray(model: SequenceModel, window: Floats, errors: Floats, drawn: Draws) -> Outcome[list[Floats]]:
    """Standard scores [P, F] of all paths after each step from `window` [W, F] on; paths go in portions."""
    paths = max(1, model.budget // len(window))
    places = [slice(at, at + paths) for at in range(0, drawn.shape[1], paths)]
    windows = [np.repeat(window[None], len(drawn[0, place]), axis=0) for place in places]
    found: list[Floats] = []
    spent: list[Outcome[Any]] = []
    for rows in drawn:
        for index, place in enumerate(places):
            part = Stray(windows[index], errors[rows[place]])
            spent.append(await model.compute(Work(predict_strayed, [part], len(part.windows) * len(window))))
            windows[index] = spent[-1].value[0]
        found.append(np.concatenate([moved[:, -1] for moved in windows]))
    return total(found, spent)


async def step(model: SequenceModel, run: Run) -> Outcome[Heard]:
    """One step of one session: it never waits in a batch behind somebody's whole recording."""
    done = await model.compute(Work(predict_runs, [run], len(run.frames), urgent=True))
    return Outcome(done.value[0], done.queue_ms, done.compute_ms, done.batch_size)


def _portions(rows: Sequence[Array], budget: int) -> list[list[int]]:
    """Indices of rows, shortest first, cut where a portion's tokens would pass the budget."""
    if sum(map(len, rows)) <= budget:
        return [list(range(len(rows)))]
    portions: list[list[int]] = [[]]
    tokens = 0
    for index in sorted(range(len(rows)), key=lambda index: len(rows[index])):
        tokens += len(rows[index])
        if portions[-1] and tokens > budget:
            portions.append([])
            tokens = len(rows[index])
        portions[-1].append(index)
    return portions


def total(value: Any, spent: Sequence[Outcome[Any]]) -> Outcome[Any]:
    """Times of all works added up; the batch size is the largest."""
    return Outcome(
        value,
        sum(outcome.queue_ms for outcome in spent),
        sum(outcome.compute_ms for outcome in spent),
        max(outcome.batch_size for outcome in spent),
    )
