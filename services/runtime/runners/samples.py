"""Synthetic inputs that fit a manifest's input table. Knows no meaning: noise of the right shape."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from services.runtime.runners.base import Array, Arrays
from services.runtime.store.manifest import Manifest, TensorSpec

FREE_AXIS = 16
BATCH_SIZES = (1, 8)


class Sampler(Protocol):
    """Makes input sets that a net accepts, of any batch size and any size of the other free axes."""

    def __call__(
        self, manifest: Manifest, batch_sizes: Sequence[int] = ..., seed: int = ..., free_axis: int = ...
    ) -> list[Arrays]: ...


def synthesise(
    manifest: Manifest, batch_sizes: Sequence[int] = BATCH_SIZES, seed: int = 0, free_axis: int = FREE_AXIS
) -> list[Arrays]:
    """One input set per batch size: standard normal floats, integers in {0, 1}.

    The first -1 of a shape is the batch axis, every other -1 becomes `free_axis`.
    """
    generator = np.random.default_rng(seed)
    return [
        {spec.name: _fill(spec, rows, free_axis, generator) for spec in manifest.inputs} for rows in batch_sizes
    ]


def _fill(spec: TensorSpec, rows: int, free_axis: int, generator: np.random.Generator) -> Array:
    shape = concrete_shape(spec, rows, free_axis)
    if np.issubdtype(np.dtype(spec.dtype), np.floating):
        return generator.standard_normal(shape).astype(spec.dtype)
    return generator.integers(0, 2, shape).astype(spec.dtype)


def concrete_shape(spec: TensorSpec, rows: int, free_axis: int = FREE_AXIS) -> tuple[int, ...]:
    """The shape with `rows` on the batch axis and `free_axis` on the other free ones."""
    batch = batch_axis(spec)
    return tuple(
        size if size >= 0 else rows if axis == batch else free_axis for axis, size in enumerate(spec.shape)
    )


def batch_axis(spec: TensorSpec) -> int | None:
    """Index of the first free axis, None if the shape is fixed."""
    return next((axis for axis, size in enumerate(spec.shape) if size < 0), None)
