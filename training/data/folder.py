"""A user's own pictures: one sub-folder a class. Says of each picture it leaves out, why. Knows no net.

PATH/<class>/<picture>, JPEG, PNG, WebP, BMP or GIF; PATH/slices.csv, if there, has a column `file` with
`<class>/<picture>` and any other columns: the groups by which the evaluation is broken down.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from services.runtime.errors import InvalidInput, NotFound
from services.runtime.pictures.decode import decode
from services.runtime.pictures.preprocess import ImagePreprocessing
from training.data import cut
from training.data.files import shown
from training.data.pictures import Pictures, Split, without_leaks
from training.data.table import read_table
from training.data.texts import UNKNOWN
from training.plan import PrivatePlan

SLICES = "slices.csv"
SMALLEST = 16  # side of the pictures that a net gets
MIN_SIDE, MAX_ASPECT = 8, 4


class FolderPlan(PrivatePlan):
    """A recipe that can learn from a folder subclasses it."""

    data: str = Field("", description="folder of pictures, one sub-folder a class; empty = the recipe's own set")
    size: int = Field(0, ge=0, le=256, description="side of its pictures in pixels; 0 = the recipe's own")

    @field_validator("size")
    @classmethod
    def _not_too_small(cls, size: int) -> int:
        """Of a smaller picture two convolutions and pools leave nothing."""
        if 0 < size < SMALLEST:
            raise PydanticCustomError("size", f"{SMALLEST} pixels a side are the least; 0 = the recipe's own")
        return size


@dataclass(frozen=True, slots=True)
class Row:
    """One picture that is fit for use; `file` is its path inside the folder."""

    file: str
    label: str
    image: Image.Image


@dataclass(slots=True)
class Folder:
    """Reads a folder picture by picture; `rejected` grows meanwhile: reason → files."""

    root: Path
    rejected: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def labels(self) -> tuple[str, ...]:
        """Names of the sub-folders, sorted. NotFound: no folder; InvalidInput: a name that is no label."""
        if not self.root.is_dir():
            raise NotFound("folder", str(self.root))
        names = sorted(p.name for p in self.root.iterdir() if p.is_dir() and not p.name.startswith("."))
        if bad := [name for name in names if not name.isprintable()]:
            raise InvalidInput("data", f"sub-folder {bad[0]!a}: a label is one line of UTF-8 text; rename it")
        return tuple(names)

    def rows(self, channels: int) -> Iterator[Row]:
        """The pictures of mode RGB (`channels` 3) or L (1), sorted by path, each once."""
        seen: dict[bytes, str] = {}
        for label in self.labels():
            for path in sorted(p for p in (self.root / label).iterdir() if not p.name.startswith(".")):
                file = f"{label}/{shown(path)}"
                row = self._read(path, file, label, channels)
                if row is None:
                    continue
                first = seen.setdefault(_digest(row.image), file)
                if first == file:
                    yield row
                else:
                    kind = "another" if first.startswith(f"{label}/") else "one of another class"
                    self.rejected[f"copy of {kind}"].append(f"{file} = {first}")

    def slices(self, files: list[str]) -> dict[str, list[str]]:
        """Column of `slices.csv` → the group of each file; "unknown" for a file without a line."""
        path = self.root / SLICES
        if not path.is_file():
            return {}
        table = read_table(path)
        place = table.place("file")
        lines = {line.cells[place]: dict(zip(table.columns, line.cells, strict=True)) for line in table.lines}
        names = [column for column in table.columns if column != "file"]
        return {name: [lines.get(file, {}).get(name) or UNKNOWN for file in files] for name in names}

    def _read(self, path: Path, file: str, label: str, channels: int) -> Row | None:
        try:
            image = decode(path.read_bytes(), channels, file)
        except (InvalidInput, OSError):
            self.rejected["not a readable picture"].append(file)
            return None
        short, long = sorted(image.size)
        if short < MIN_SIDE:
            self.rejected[f"a side under {MIN_SIDE} pixels"].append(file)
        elif long > MAX_ASPECT * short:
            self.rejected[f"one side over {MAX_ASPECT} times the other"].append(file)
        else:
            return Row(file, label, image)
        return None


def load(root: Path, size: int, channels: int) -> Split:
    """All pictures scaled to `size` × `size` as serving scales them, cut 70/10/20 class by class.

    The order within a class is that of the pictures' hashes: it depends on no file name and on no seed.
    Raises InvalidInput for fewer than two classes or a class of too few pictures.
    """
    folder = Folder(root)
    names = folder.labels()
    if len(names) < 2:
        raise InvalidInput("data", f"{shown(root)} has {len(names)} sub-folders; two classes are needed")
    every = _pictures(folder, names, size, channels)
    digests = [hashlib.sha256(pixels.tobytes()).digest() for pixels in every.pixels]
    parts = cut.by_content(digests, every.labels, names, "pictures", folder.rejected)
    train, validation, test = (every.select(rows) for rows in parts)
    train, leaked = without_leaks(train, validation, test)
    folder.rejected["equal to a held-out row once scaled"] += leaked
    return Split(train, validation, test, names, f"folder {shown(root)}", dict(folder.rejected))


def _pictures(folder: Folder, names: tuple[str, ...], size: int, channels: int) -> Pictures:
    scale = scaling(size, channels)
    pixels, labels, files = [], [], []
    for row in folder.rows(channels):
        pixels.append(scale.apply(row.image).astype(np.uint8).transpose(1, 2, 0))
        labels.append(names.index(row.label))
        files.append(row.file)
    if not files:
        raise InvalidInput("data", f"{shown(folder.root)} holds no picture that can be read")
    return Pictures(np.stack(pixels), np.array(labels, np.int64), folder.slices(files))


def scaling(size: int, channels: int) -> ImagePreprocessing:
    """To `size` × `size`, values left on 0–255."""
    zero, one = (0.0,) * channels, (1.0,) * channels
    return ImagePreprocessing(
        channels=1 if channels == 1 else 3,
        resize="exact",
        size=size,
        crop=0,
        interpolation="bilinear",
        mean=zero,
        std=one,
    )


def _digest(image: Image.Image) -> bytes:
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).digest()
