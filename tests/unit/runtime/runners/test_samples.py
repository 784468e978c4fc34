"""Synthetic inputs fit the manifest's table."""

import numpy as np

from services.runtime.runners.samples import FREE_AXIS, batch_axis, synthesise
from services.runtime.store.manifest import Manifest, TensorSpec

MANIFEST = Manifest(
    name="m",
    version=1,
    tasks=("sequence.session",),
    inputs=(
        TensorSpec(name="ids", dtype="int64", shape=(-1, -1)),
        TensorSpec(name="state", dtype="float32", shape=(2, -1, 8)),
    ),
)


def test_the_first_free_axis_is_the_batch() -> None:
    one, five = synthesise(MANIFEST, [1, 5])
    assert one["ids"].shape == (1, FREE_AXIS) and one["state"].shape == (2, 1, 8)
    assert five["ids"].shape == (5, FREE_AXIS) and five["state"].shape == (2, 5, 8)


def test_dtypes_are_the_manifests() -> None:
    (sample,) = synthesise(MANIFEST, [2])
    assert sample["ids"].dtype == np.int64 and sample["state"].dtype == np.float32
    assert set(np.unique(sample["ids"])) <= {0, 1}


def test_the_seed_decides() -> None:
    first, again, other = (synthesise(MANIFEST, [2], seed)[0]["state"] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_a_fixed_shape_has_no_batch_axis() -> None:
    assert batch_axis(TensorSpec(name="x", dtype="float32", shape=(2, 3))) is None
