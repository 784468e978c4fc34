"""A full disk (/dev/full behind the name) is told as that, and leaves nothing published."""

import errno
from pathlib import Path

import pytest

from services.runtime.store.publish import Draft
from services.runtime.store.store import ModelStore
from tests.unit.training.painted import paint
from tests.unit.training.test_picture_recipes import train
from training.disk import DiskFull, told_when_full
from training.plan import plan_of
from training.publish import publish
from training.recipes.lenet_rgb import LeNetRgb


@pytest.mark.parametrize("file", ["checkpoint.pt.tmp", "metrics.jsonl"])
def test_training_on_a_full_disk(tmp_path: Path, file: str) -> None:
    data, home = paint(tmp_path / "own", 5), tmp_path / "home"
    train(LeNetRgb(), data, home, epochs=1)
    (home / "checkpoint.pt").unlink()
    (home / file).unlink(missing_ok=True)
    (home / file).symlink_to("/dev/full")
    with pytest.raises(DiskFull, match="is full: make room"), told_when_full(home):
        train(LeNetRgb(), data, home, epochs=1)


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
