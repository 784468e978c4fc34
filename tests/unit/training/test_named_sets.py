"""IDX files that are not what they say are refused; emoji are split by emoji and never by drawing."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.runtime.errors import InvalidInput
from training.data import emoji, mnist


def idx(shape: tuple[int, ...], body: bytes) -> bytes:
    return b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + body


def test_idx_reads_plain_and_gzipped(tmp_path: Path) -> None:
    raw = idx((2, 3), bytes(range(6)))
    for name, content in (("plain", raw), ("packed", gzip.compress(raw, mtime=0))):
        (tmp_path / name).write_bytes(content)
        assert mnist.read_idx(tmp_path / name).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no IDX file"),
        (b"\0\0\x0d\x01\0\0\0\0", "no IDX file"),
        (idx((2, 3), bytes(5)), "holds 5 bytes of"),
        (b"\0\0\x08\x02\0\0", "damaged"),
        (gzip.compress(idx((2, 3), bytes(6)), mtime=0)[:-9], "damaged"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InvalidInput, match=says):
        mnist.read_idx(tmp_path / "file")


def test_labels_out_of_range_and_rows_without_label_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(idx((3, 2, 2), bytes(12)))
    (tmp_path / "labels").write_bytes(idx((2,), bytes([1, 2])))
    with pytest.raises(InvalidInput, match="3 rows, labels 2"):
        mnist.pictures(tmp_path / "images", tmp_path / "labels", 10)
    (tmp_path / "labels").write_bytes(idx((3,), bytes([1, 2, 10])))
    with pytest.raises(InvalidInput, match="label 10; 0 to 9"):
        mnist.pictures(tmp_path / "images", tmp_path / "labels", 10)


def index(count: int) -> list[dict[str, Any]]:
    return [
        {
            "category": ("Flags", "Objects")[place % 2],
            "sheet_x": place % 8,
            "sheet_y": place // 8,
            "has_img_google": True,
            "has_img_twitter": place != 3,
        }
        for place in range(count)
    ]


def test_emoji_are_split_by_emoji() -> None:
    """Both sheets draw emoji `n` as a cell filled with n: a drawing tells its emoji."""
    sheet = np.zeros((34 * 8, 34 * 8, 3), np.uint8)
    for place in range(60):
        top, left = 34 * (place // 8), 34 * (place % 8)
        sheet[top + 1 : top + 33, left + 1 : left + 33] = place + 1
    split = emoji.split_of(index(60), {"google": sheet, "twitter": sheet})
    parts = [split.train, split.validation, split.test]
    drawn = [{int(row.min()) for row in part.pixels} for part in parts]
    assert sum(map(len, drawn)) == len(set.union(*drawn)) == 60
    assert [len(part) for part in drawn] == [42, 6, 12]
    assert "CC-BY-4.0" in split.licence
    assert sum(len(part) for part in parts) == 119
    for part in parts:
        assert (part.pixels == part.pixels[:, :1, :1, :1]).all()  # the border is cut off, the cell is whole
        assert part.labels.tolist() == [(int(row.min()) - 1) % 2 for row in part.pixels]
        assert set(part.groups["vendor"]) == {"google", "twitter"}
