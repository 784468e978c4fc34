"""A user's folder: what is left out and why, a split that no name decides, and the tensors that serving makes."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from services.runtime.errors import InvalidInput, NotFound
from services.runtime.pictures.decode import decode
from services.runtime.pictures.preprocess import ImagePreprocessing
from tests.unit.training.painted import paint, picture
from training.data import folder
from training.data.folder import Folder
from training.data.pictures import Normalisation, Pictures


def rows_of(pictures: Pictures) -> set[bytes]:
    return {row.tobytes() for row in pictures.pixels}


def test_what_is_left_out_is_named_with_its_reason(tmp_path: Path) -> None:
    root = paint(tmp_path / "own", 10)
    (root / "red" / "torn.png").write_bytes((root / "red" / "000.png").read_bytes()[:60])
    (root / "red" / "empty.png").write_bytes(b"")
    (root / "red" / "notes.txt").write_text("not a picture")
    (root / "red" / "zcopy.png").write_bytes((root / "red" / "001.png").read_bytes())
    (root / "red" / "zblue.png").write_bytes((root / "blue" / "002.png").read_bytes())
    (root / "red" / ".hidden").write_text("")
    picture("red", 77, (5, 9)).save(root / "red" / "tiny.png")
    picture("red", 78, (10, 60)).save(root / "red" / "wide.png")
    split = folder.load(root, 16, 3)
    assert {reason: rows for reason, rows in split.dropped.items() if rows} == {
        "not a readable picture": ["red/empty.png", "red/notes.txt", "red/torn.png"],
        "copy of another": ["red/zcopy.png = red/001.png"],
        "copy of one of another class": ["red/zblue.png = blue/002.png"],
        "a side under 8 pixels": ["red/tiny.png"],
        "one side over 4 times the other": ["red/wide.png"],
    }
    assert "14 training, 2 validation, 4 test rows; left out: " in split.told()
    assert "3 not a readable picture" in split.told()
    assert split.class_names == ("blue", "red")
    assert split.train.pixels.shape == (14, 16, 16, 3)


def test_the_split_depends_on_the_pictures_alone_and_is_disjoint(tmp_path: Path) -> None:
    first = folder.load(paint(tmp_path / "one", 20), 16, 3)
    for number, path in enumerate(sorted(paint(tmp_path / "two", 20).glob("red/*"))):
        path.rename(path.with_name(f"{99 - number}.png"))
    second = folder.load(tmp_path / "two", 16, 3)
    for part in ("train", "validation", "test"):
        assert rows_of(getattr(first, part)) == rows_of(getattr(second, part))
    assert not rows_of(first.train) & (rows_of(first.validation) | rows_of(first.test))
    assert np.bincount(first.test.labels).tolist() == [4, 4]
    assert first.digest != folder.load(tmp_path / "one", 17, 3).digest


def test_a_row_equal_to_a_held_out_one_once_scaled_leaves_the_training_rows(tmp_path: Path) -> None:
    root = paint(tmp_path / "own", 10)
    held = folder.load(root, 16, 3).test
    for number, row in enumerate(held.pixels):
        label = ("blue", "red")[held.labels[number]]
        Image.fromarray(row).save(root / label / f"scaled{number}.png")
    split = folder.load(root, 16, 3)
    assert not rows_of(split.train) & (rows_of(split.validation) | rows_of(split.test))
    assert (
        len(split.train)
        + len(split.validation)
        + len(split.test)
        + len(split.dropped["equal to a held-out row once scaled"])
        == 24
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_serving_makes_the_tensor_that_training_saw(tmp_path: Path, channels: int) -> None:
    root = paint(tmp_path / "own", 5)
    picture("red", 5, (31, 20)).convert("RGBA").save(root / "red" / "alpha.png")
    tall = picture("red", 6, (40, 20))
    exif = tall.getexif()
    exif[0x0112] = 6
    tall.save(root / "red" / "turned.jpg", exif=exif)
    split = folder.load(root, 12, channels)
    every = np.concatenate([split.train.pixels, split.validation.pixels, split.test.pixels])
    normalisation = Normalisation.of(split.train)
    serving = ImagePreprocessing(**normalisation.fields(12, channels))
    served = {serving.apply(decode(path.read_bytes(), channels, "image")).tobytes() for path in root.glob("*/*")}
    assert {tensor.numpy().tobytes() for tensor in normalisation.apply(every)} == served


def test_slices_come_from_the_table_beside_the_pictures(tmp_path: Path) -> None:
    root = paint(tmp_path / "own", 5)
    (root / "slices.csv").write_text("file,camera\nred/000.png,phone\nblue/001.png,phone\nred/001.png,\n")
    own = Folder(root)
    files = [row.file for row in own.rows(3)]
    cameras = dict(zip(files, own.slices(files)["camera"], strict=True))
    assert {file for file, camera in cameras.items() if camera == "phone"} == {"red/000.png", "blue/001.png"}
    assert cameras["red/001.png"] == "unknown"
    (root / "slices.csv").write_text("name,camera\nred/000.png,phone\n")
    with pytest.raises(InvalidInput, match="no column 'file'; it has"):
        own.slices(files)


def test_folders_that_cannot_be_learnt_from_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        folder.load(tmp_path / "nowhere", 16, 3)
    with pytest.raises(InvalidInput, match="1 sub-folders; two classes"):
        (tmp_path / "one" / "only").mkdir(parents=True)
        folder.load(tmp_path / "one", 16, 3)
    with pytest.raises(InvalidInput, match="class blue has 4 pictures"):
        folder.load(paint(tmp_path / "few", 4), 16, 3)


@pytest.mark.parametrize(("name", "told"), [(b"caf\xe9", r"caf\\udce9"), (b"two\nlines", r"two\\nlines")])
def test_a_class_that_is_no_label_is_refused(tmp_path: Path, name: bytes, told: str) -> None:
    root = paint(tmp_path / "own")
    (root / "red").rename(root / os.fsdecode(name))
    with pytest.raises(InvalidInput, match=rf"sub-folder '{told}': .*rename it"):
        folder.load(root, 16, 3)


def test_names_that_are_no_text_are_told_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = paint(tmp_path / os.fsdecode(b"\xff"))
    (root / "red" / os.fsdecode(b"\xfe.png")).write_bytes(b"no picture")
    monkeypatch.chdir(root)
    split = folder.load(Path(), 16, 3)
    assert split.source == "folder ?" and split.dropped["not a readable picture"] == ["red/?.png"]


def test_channels_without_spread_stay_finite() -> None:
    black = Pictures(np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, np.int64))
    assert torch.equal(Normalisation.of(black).apply(black.pixels), torch.zeros(4, 1, 8, 8))
