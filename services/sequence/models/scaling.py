"""Standard scores of a series, one mean and deviation a feature. Training and serving both use this file."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LONG = 32768  # values


@dataclass(frozen=True)
class Scaling:
    """z = (x − mean) / std in float32; a model's manifest keeps both under `preprocessing`."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, values: NDArray[Any]) -> "Scaling":
        """Statistics of training rows [..., features]; one that float32 cannot tell from a constant gets std 1."""
        flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
        std = flat.std(0)
        return cls(
            tuple(flat.mean(0).tolist()), tuple(np.where(std >= np.finfo(np.float32).tiny, std, 1.0).tolist())
        )

    @classmethod
    def read(cls, preprocessing: Mapping[str, Any]) -> "Scaling":
        """What `fields` wrote; a manifest without them leaves values as they are."""
        return cls(tuple(preprocessing.get("mean", (0.0,))), tuple(preprocessing.get("std", (1.0,))))

    def apply(self, values: NDArray[Any]) -> Floats:
        """[..., steps, features] in the data's unit → standard scores, float32."""
        mean, std = self._long
        steps = values.shape[-2] if values.ndim > 1 else 0
        mean, std = (mean[:steps], std[:steps]) if 0 < steps <= len(mean) else self._arrays
        scores: Floats = (values.astype(np.float32, copy=False) - mean) / std
        return scores

    def undo(self, scores: Floats) -> Floats:
        """Standard scores → the data's unit, float32."""
        mean, std = self._arrays
        return scores * std + mean

    @cached_property
    def _arrays(self) -> tuple[Floats, Floats]:
        return np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)

    @cached_property
    def _long(self) -> tuple[Floats, Floats]:
        """Both for many steps: where the last axis is short, numpy spends its time between the rows."""
        mean, std = (np.tile(part, (LONG // part.size, 1)) for part in self._arrays)
        return mean, std

    def fields(self) -> dict[str, list[float]]:
        """Entries of the manifest's `preprocessing`."""
        return {"mean": list(self.mean), "std": list(self.std)}
