"""Runs of frames: every stream keeps its own memory, however long its neighbours are."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.sequence.step import Run, predict_runs
from tests.unit.sequence.fakes import SumRunner, sum_net

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=8)


def runs_of(counts: list[int]) -> list[Run]:
    net = sum_net(SumRunner())
    rng = np.random.default_rng(len(counts))
    return [Run(rng.integers(-9, 9, (n, 4)).astype(np.float32), net.fresh_state()) for n in counts]


@given(lengths)
def test_batched_equals_alone(counts: list[int]) -> None:
    net, runs = sum_net(SumRunner()), runs_of(counts)
    for run, heard in zip(runs, predict_runs(net, runs), strict=True):
        assert heard.scores[:, 0].tolist() == run.frames.sum(axis=1).cumsum().tolist()
        assert heard.state["total"].shape == (1, 1, 1)
        assert heard.state["total"].item() == run.frames.sum()


@given(lengths)
def test_a_step_computes_only_the_streams_still_going(counts: list[int]) -> None:
    runner = SumRunner()
    predict_runs(sum_net(runner), runs_of(counts))
    assert runner.rows == [sum(n > step for n in counts) for step in range(max(counts))]


def test_cut_and_continued_equals_whole() -> None:
    net, (run,) = sum_net(SumRunner()), runs_of([9])
    (first,) = predict_runs(net, [Run(run.frames[:4], run.state)])
    (second,) = predict_runs(net, [Run(run.frames[4:], first.state)])
    (whole,) = predict_runs(net, [run])
    assert np.concatenate([first.scores, second.scores]).tolist() == whole.scores.tolist()


def test_a_returned_state_does_not_keep_the_batch_alive() -> None:
    for heard in predict_runs(sum_net(SumRunner()), runs_of([2, 2, 1])):
        assert heard.state["total"].base is None
