"""Labelled pictures in memory, their splits and their normalisation. Knows no files and no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.data.cut import LeftOut, check_kept, fingerprint, told

Bytes = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pictures:
    """uint8 [N, H, W, C], int64 [N], and for each slice name the group of each row."""

    pixels: Bytes
    labels: Labels
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: npt.NDArray[Any]) -> "Pictures":
        groups = {name: [values[i] for i in rows] for name, values in self.groups.items()}
        return Pictures(self.pixels[rows], self.labels[rows], groups)


@dataclass(frozen=True, slots=True)
class Split:
    """Disjoint rows for fitting, for choosing and for the one final look."""

    train: Pictures
    validation: Pictures
    test: Pictures
    class_names: tuple[str, ...]
    source: str
    dropped: LeftOut = field(default_factory=dict)
    licence: str = ""

    @property
    def digest(self) -> str:
        """sha256 over every row and its place: other data is another run."""
        made = sha256("\n".join(self.class_names).encode())
        for part in (self.train, self.validation, self.test):
            made.update(repr(part.pixels.shape).encode() + part.pixels.tobytes() + part.labels.tobytes())
        return made.hexdigest()

    def parts(self) -> dict[str, Any]:
        """How many pictures each part has, and their hash."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: fingerprint(row.tobytes() for row in part.pixels) for name, part in parts.items()}

    def told(self) -> str:
        """Rows of each part, and how many were left out for which reason."""
        return told(len(self.train), len(self.validation), len(self.test), self.dropped)


@dataclass(frozen=True, slots=True)
class Normalisation:
    """(x − mean) / std per channel, on the 0–255 scale; the manifest's words for the same."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, pictures: Pictures) -> "Normalisation":
        """Channel statistics of training rows; one black or white channel gets std 1."""
        flat = pictures.pixels.reshape(-1, pictures.pixels.shape[-1]).astype(np.float64)
        std = flat.std(0)
        return cls(tuple(flat.mean(0).tolist()), tuple(np.where(std > 0, std, 1.0).tolist()))

    @classmethod
    def fixed(cls, channels: int) -> "Normalisation":
        """0–255 to −1–1, whatever the rows are."""
        return cls((127.5,) * channels, (127.5,) * channels)

    def apply(self, pixels: Bytes) -> Tensor:
        """uint8 [N, H, W, C] → float32 [N, C, H, W]."""
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        normal = (pixels.astype(np.float32) - mean) / std
        return torch.from_numpy(np.ascontiguousarray(normal.transpose(0, 3, 1, 2)))

    def fields(self, size: int, channels: int) -> dict[str, Any]:
        """`preprocessing` of the manifest."""
        return {
            "channels": channels,
            "resize": "exact",
            "size": size,
            "crop": 0,
            "interpolation": "bilinear",
            "invert": "never",
            "mean": list(self.mean),
            "std": list(self.std),
        }


class PictureRows:
    """Training rows for the loop, normalised once."""

    def __init__(self, pictures: Pictures, normalisation: Normalisation) -> None:
        self.pixels = normalisation.apply(pictures.pixels)
        self.labels = torch.from_numpy(pictures.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """float32 [batch, C, H, W], int64 [batch]."""
        return self.pixels[indices], self.labels[indices]


def split_off(count: int, share: float, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows [kept], [split off]: a fixed permutation of `count`, so the same rows every time."""
    order = np.random.default_rng(seed).permutation(count)
    cut = count - round(count * share)
    return np.sort(order[:cut]), np.sort(order[cut:])


def without_leaks(train: Pictures, *held_out: Pictures) -> tuple[Pictures, list[str]]:
    """Training rows whose pixels appear in no held-out row, and the places of those that do. InvalidInput: a class
    has no such row."""
    seen = {row.tobytes() for pictures in held_out for row in pictures.pixels}
    clean = np.array([row.tobytes() not in seen for row in train.pixels], bool)
    check_kept(train.labels, train.labels[clean])
    return train.select(np.flatnonzero(clean)), [f"row {row}" for row in np.flatnonzero(~clean)]
