"""Batches are stacked and split in order; what is not finite fails alone."""

import time

import numpy as np
import pytest

from services.runtime.errors import InvalidInput
from services.runtime.runners.base import Array, Arrays
from services.runtime.store.manifest import Manifest, TensorSpec
from services.vision.predict import Prediction, Predictor, softmax
from services.vision.prepare import Prepared

MANIFEST = Manifest(
    name="m",
    version=1,
    tasks=("vision.classify",),
    inputs=(TensorSpec(name="images", dtype="float32", shape=(-1, 1, 2, 2)),),
)


class Sums:
    """Logits: the picture's sum against zero; features: its pixels."""

    def run(self, inputs: Arrays, alone: bool = True) -> dict[str, Array]:
        sums = inputs["images"].sum(axis=(1, 2, 3))
        return {
            "logits": np.stack([sums, np.zeros_like(sums)], axis=1),
            "features": inputs["images"].reshape(-1, 4),
        }

    def close(self) -> None: ...


def prepared(value: float) -> Prepared:
    return Prepared(f"images[{value:g}]", np.full((1, 2, 2), value, np.float32))


def test_a_batch_is_split_in_order() -> None:
    answers = Predictor(Sums(), MANIFEST).run([prepared(value) for value in (0, 1, 2)])
    for value, answer in enumerate(answers):
        assert isinstance(answer, Prediction)
        assert answer.features.tolist() == [value] * 4
        assert answer.scores[0] == pytest.approx(1 / (1 + np.exp(-4 * value)))


@pytest.mark.parametrize("broken", [np.inf, np.nan])
def test_what_is_not_finite_fails_alone(broken: float) -> None:
    first, second, third = Predictor(Sums(), MANIFEST).run([prepared(1), prepared(broken), prepared(2)])
    assert isinstance(first, Prediction) and isinstance(third, Prediction)
    assert isinstance(second, InvalidInput) and second.violations[0].field == f"images[{broken:g}]"


def test_softmax_is_stable() -> None:
    scores = softmax(np.array([[1000.0, 1000.0], [-1000.0, 0.0]], np.float32))
    np.testing.assert_allclose(scores, [[0.5, 0.5], [0.0, 1.0]])


def block(*values: float) -> Prepared:
    return Prepared("images[{}].pixels", np.stack([np.full((1, 2, 2), value, np.float32) for value in values]))


def test_a_block_and_a_picture_share_a_batch_and_each_gets_its_own() -> None:
    first, whole, last = Predictor(Sums(), MANIFEST).run([prepared(7), block(1, 2, 3), prepared(9)])
    assert isinstance(first, Prediction) and isinstance(whole, Prediction) and isinstance(last, Prediction)
    assert first.features.tolist() == [7] * 4 and last.features.tolist() == [9] * 4
    assert whole.features[:, 0].tolist() == [1, 2, 3] and whole.scores.shape == (3, 2)
    assert [answer.together for answer in (first, whole, last)] == [5, 5, 5]


def test_a_block_s_row_that_is_not_finite_is_named_and_harms_no_neighbour() -> None:
    first, whole, last = Predictor(Sums(), MANIFEST).run([prepared(7), block(1, 2, np.inf), prepared(9)])
    assert isinstance(first, Prediction) and isinstance(last, Prediction)
    assert isinstance(whole, InvalidInput) and whole.violations[0].field == "images[2].pixels"


@pytest.mark.parametrize(("slow_from", "brief"), [(1, False), (5, False), (9, True)])
def test_a_net_is_brief_if_its_largest_batch_is(slow_from: int, brief: bool) -> None:
    class Slow(Sums):
        def run(self, inputs: Arrays, alone: bool = True) -> dict[str, Array]:
            if len(inputs["images"]) >= slow_from:
                time.sleep(0.01)
            return super().run(inputs, alone)

    assert Predictor(Slow(), MANIFEST).is_brief(8) is brief
