"""A full disk (/dev/full behind the name) is told as that, and leaves nothing published."""

import errno
from pathlib import Path

import pytest

from services.runtime.errors import PreconditionFailed
from services.runtime.store.publish import Draft
from services.runtime.store.store import ModelStore
from tests.unit.training.painted import paint
from tests.unit.training.test_picture_recipes import train
from training.disk import DiskFull, alone_in, told_when_full, whole
from training.journal import Journal
from training.plan import plan_of
from training.publish import publish
from training.recipes.lenet_rgb import LeNetRgb


@pytest.mark.parametrize("file", ["data.json", "checkpoint.pt", "report.json"])
def test_training_on_a_full_disk(tmp_path: Path, file: str) -> None:
    data, home = paint(tmp_path / "own", 5), tmp_path / "home"
    train(LeNetRgb(), data, home, epochs=1)
    before = (home / file).read_bytes()
    (home / "checkpoint.pt").unlink()  # it begins anew
    (home / f"{file}.tmp").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match="is full: make room"), told_when_full(home):
        train(LeNetRgb(), data, home, epochs=1)
    assert not (home / f"{file}.tmp").is_symlink()
    if file in ("data.json", "report.json"):
        assert (home / file).read_bytes() == before


def test_a_curve_that_cannot_be_written_anew_stays(tmp_path: Path) -> None:
    line = '{"kind": "step", "step": 1, "loss": 2.5}\n'
    (tmp_path / "metrics.jsonl").write_text(line)
    (tmp_path / "metrics.jsonl.tmp").symlink_to("/dev/full")
    with pytest.raises(DiskFull), told_when_full(tmp_path):
        Journal(tmp_path, 1)
    assert (tmp_path / "metrics.jsonl").read_text() == line


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "training" / "lenet-rgb"
    with alone_in(folder), pytest.raises(PreconditionFailed, match="another process trains in"), alone_in(folder):
        pass
    with alone_in(folder), alone_in(folder.with_name("mlp-mnist")):
        pass


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ValueError, match="half"), whole(path) as aside:
        aside.write_text("ne")
        raise ValueError("half")
    assert [path.read_text(), *tmp_path.iterdir()] == ["old", path]
    with whole(path) as aside:
        aside.write_text("new")
    assert [path.read_text(), *tmp_path.iterdir()] == ["new", path]


def test_publishing_on_a_full_disk_publishes_nothing(tmp_path: Path) -> None:
    done = train(LeNetRgb(), paint(tmp_path / "own", 5), tmp_path / "home", epochs=1)
    store, plan = ModelStore(tmp_path / "store"), plan_of(LeNetRgb.plan, {})

    def fill(draft: Draft) -> None:
        Path("/dev/full").write_bytes(bytes(100_000))

    with pytest.raises(DiskFull), told_when_full(store.root):
        publish(store, "painted", done.trained, done.model, done.report, plan, fill, done.plots)
    assert store.names() == []
    assert not list(store.root.rglob("*.safetensors"))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_both_ways_of_saying_it(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(DiskFull), told_when_full(tmp_path):
        raise error


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), told_when_full(tmp_path):
        raise PermissionError(errno.EACCES, "no")
    with pytest.raises(RuntimeError, match="shapes"), told_when_full(tmp_path):
        raise RuntimeError("shapes differ")
