"""A real `maas train --sweep` stopped by Ctrl-C and killed by SIGKILL: it ends with the same table and winner."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.unit.training.painted import paint
from training import journal

SETTINGS = {"size": 16, "epochs": 8, "batch_size": 4, "checkpoint_s": 0.02, "threads": 1, "patience": 0}
POINTS = "learning_rate=0.002,0.01"
STOPPED, KILLED = 130, -signal.SIGKILL


def start(home: Path, data: Path) -> subprocess.Popen[str]:
    settings = [f"--set={key}={value}" for key, value in SETTINGS.items()]
    places = ["--data", str(data), "--home", str(home), "--store", str(home / "store")]
    command = [sys.executable, "-m", "cli", "train", "lenet-rgb", "--sweep", POINTS, *settings, *places]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def points(home: Path) -> Sequence[Path]:
    """The folders of the points that were begun, in order."""
    return sorted(path for path in sweep(home).glob("learning_rate=*") if path.is_dir())


def sweep(home: Path) -> Path:
    return home / "training" / "sweep" / "lenet-rgb"


def broken_at(home: Path, data: Path, point: int, lines: int, how: signal.Signals) -> tuple[int, str]:
    """Exit status and output of a sweep that is sent `how` once this point has told this many lines."""
    with start(home, data) as process:
        try:
            while len(points(home)) <= point or len(journal.read(points(home)[point])) < lines:
                assert process.poll() is None, process.communicate()[0]
                time.sleep(0.005)
            process.send_signal(how)
            return process.wait(), process.communicate()[0]
        finally:
            process.kill()


def table(home: Path) -> list[dict[str, Any]]:
    """Without what a clock said."""
    return [{**row, "seconds": None} for row in json.loads((sweep(home) / "sweep.json").read_text())]


@pytest.mark.slow
def test_a_sweep_that_broke_twice_ends_as_one_that_never_did(tmp_path: Path) -> None:
    data, whole, broken = paint(tmp_path / "data"), tmp_path / "whole", tmp_path / "broken"
    with start(whole, data) as unbroken:
        status, output = broken_at(broken, data, 0, 20, signal.SIGINT)
        assert status == STOPPED and "stopped: the same command goes on from the last checkpoint" in output
        assert broken_at(broken, data, 1, 20, signal.SIGKILL)[0] == KILLED
        assert not (sweep(broken) / "sweep.json").exists()
        with start(broken, data) as last:
            for process in (last, unbroken):
                output = process.communicate()[0]
                assert process.returncode == 0, output
    assert table(broken) == table(whole) and len(points(broken)) == 2
    for ours, theirs in zip(points(broken), points(whole), strict=True):
        assert journal.read(ours) == journal.read(theirs)
    assert [(home / "report.json").is_file() for home in points(broken)] == [
        row["chosen"] for row in table(broken)
    ]
