"""Synthetic inputs that fit a manifest's input table. Knows no meaning: noise of the right shape."""

from collections.abc import Sequence

import numpy as np

from services.runtime.runners.base import Array, Arrays
from services.runtime.store.manifest import Manifest, TensorSpec

FREE_AXIS = 16
BATCH_SIZES = (1, 8)


def synthesise(manifest: Manifest, batch_sizes: Sequence[int] = BATCH_SIZES, seed: int = 0) -> list[Arrays]:
    """One input set per batch size: standard normal floats, integers in {0, 1}.

    The first -1 of a shape is the batch axis, every other -1 becomes FREE_AXIS.
    """
    generator = np.random.default_rng(seed)
    return [{spec.name: _fill(spec, rows, generator) for spec in manifest.inputs} for rows in batch_sizes]


def _fill(spec: TensorSpec, rows: int, generator: np.random.Generator) -> Array:
    shape = concrete_shape(spec, rows)
    if np.issubdtype(np.dtype(spec.dtype), np.floating):
        return generator.standard_normal(shape).astype(spec.dtype)
    return generator.integers(0, 2, shape).astype(spec.dtype)


def concrete_shape(spec: TensorSpec, rows: int) -> tuple[int, ...]:
    """The shape with `rows` on the batch axis and FREE_AXIS on the other free ones."""
    batch = batch_axis(spec)
    return tuple(
        size if size >= 0 else rows if axis == batch else FREE_AXIS for axis, size in enumerate(spec.shape)
    )


def batch_axis(spec: TensorSpec) -> int | None:
    """Index of the first free axis, None if the shape is fixed."""
    return next((axis for axis, size in enumerate(spec.shape) if size < 0), None)
