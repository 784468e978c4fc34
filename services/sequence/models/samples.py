"""Inputs that every sequence net accepts, for timing, comparing and warming up. Imports no torch."""

from collections.abc import Sequence

import numpy as np

from services.runtime.runners.base import Arrays
from services.runtime.runners.samples import BATCH_SIZES, FREE_AXIS, synthesise
from services.runtime.store.manifest import Manifest


def samples(
    manifest: Manifest, batch_sizes: Sequence[int] = BATCH_SIZES, seed: int = 0, free_axis: int = FREE_AXIS
) -> list[Arrays]:
    """One input set per batch size: ids within the vocabulary, every other row half as long as the rest.

    Rows have `free_axis` steps, or as many as the net has positions.
    """
    generator = np.random.default_rng(seed)
    width = min(free_axis, int(manifest.config.get("max_position_embeddings", free_axis)))
    return [
        {**noise, **_rows(manifest, rows, width, generator)}
        for noise, rows in zip(synthesise(manifest, batch_sizes, seed, width), batch_sizes, strict=True)
    ]


def _rows(manifest: Manifest, rows: int, width: int, generator: np.random.Generator) -> Arrays:
    """The inputs that hold ids, lengths or masks, which may not be any noise."""
    lengths = np.where(np.arange(rows) % 2, width // 2, width)
    mask = (np.arange(width) < lengths[:, None]).astype(np.int64)
    size = int(manifest.config.get("vocab_size", len(manifest.config.get("graphemes", "x"))))
    ids = generator.integers(0, size, (rows, width)) * mask
    meaningful = {
        "input_ids": ids,
        "graphemes": ids,
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(ids),
        "lengths": lengths,
    }
    return {spec.name: meaningful[spec.name] for spec in manifest.inputs if spec.name in meaningful}
