"""The journal and its TensorBoard twin tell the same curve, each step once, whatever was killed in between."""

import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training import journal
from training.journal import Journal

Curves = dict[str, list[tuple[int, float]]]


def shown(folder: Path) -> Curves:
    """What TensorBoard shows of the folder."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def told(folder: Path) -> Curves:
    """The JSON lines in that form."""
    curves: Curves = {}
    for line in journal.read(folder):
        kind, step = line.pop("kind"), line.pop("step")
        for name, value in line.items():
            curves.setdefault(f"{kind}/{name}", []).append((step, pytest.approx(value, rel=1e-6)))
    return curves


def write(folder: Path, first: int, last: int, loss: float) -> None:
    made = Journal(folder, first - 1)
    for step in range(first, last + 1):
        made.write("step", step, loss=loss + step, rate=1e-3)
    made.write("epoch", last, epoch=0, train_loss=loss, accuracy=0.25, score=0.25)
    made.close()


def test_both_tell_the_same_and_a_resumed_run_no_step_twice(tmp_path: Path) -> None:
    write(tmp_path, 1, 9, 0.1)
    write(tmp_path, 6, 12, 0.2)
    write(tmp_path, 11, 13, 0.3)
    losses = shown(tmp_path)["step/loss"]
    assert [step for step, _ in losses] == list(range(1, 14))
    assert [round(value % 1, 1) for _, value in losses] == [0.1] * 5 + [0.2] * 5 + [0.3] * 3
    assert shown(tmp_path) == told(tmp_path)
    assert set(shown(tmp_path)) > {"step/rate", "epoch/train_loss", "epoch/accuracy"}


def test_a_torn_last_line_and_record_are_dropped(tmp_path: Path) -> None:
    write(tmp_path, 1, 4, 0.1)
    lines = tmp_path / journal.FILE
    lines.write_bytes(lines.read_bytes()[:-5])
    (events,) = tmp_path.glob("events.out.tfevents.*")
    events.write_bytes(events.read_bytes()[:-5])
    write(tmp_path, 5, 6, 0.1)
    assert [step for step, _ in shown(tmp_path)["step/loss"]] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in journal.read(tmp_path) if line["kind"] == "step"] == [1, 2, 3, 4, 5, 6]


def test_who_writes_nothing_loads_no_tensorboard() -> None:
    code = "import sys, training.run; sys.exit(any(name.startswith('tensorboard') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
