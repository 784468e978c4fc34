"""Real `maas train` processes killed by SIGKILL and stopped by a full disk: the run ends as if it never broke."""

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from services.runtime.store.store import ModelStore
from tests.unit.training.painted import paint
from tests.unit.training.test_journal import shown, told
from training import checkpoint, journal

SETTINGS = {"size": 16, "epochs": 16, "batch_size": 4, "checkpoint_s": 0.02, "threads": 1, "patience": 0}


class Run:
    """One home, and the command that trains there."""

    def __init__(self, home: Path, data: Path) -> None:
        self.folder, self.store = home / "training" / "lenet-rgb", ModelStore(home / "store")
        settings = [f"--set={key}={value}" for key, value in SETTINGS.items()]
        options = ["--data", data, "--home", home, "--store", home / "store"]
        self._command = [sys.executable, "-m", "cli", "train", "lenet-rgb", *settings, *map(str, options)]

    @contextmanager
    def started(self, *more: str) -> Iterator[subprocess.Popen[str]]:
        """The process; it is gone when the block ends."""
        command = [*self._command, *more]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    def killed_at(self, step: int) -> None:
        """Starts it and kills it once it has told of this step."""
        with self.started() as process:
            while len(journal.read(self.folder)) < step:
                assert process.poll() is None, process.communicate()[0]
                time.sleep(0.005)
            process.kill()
            process.communicate()
        assert process.returncode == -signal.SIGKILL


def weights(run: Run) -> list[dict[str, torch.Tensor]]:
    """The best ones, and the last ones with what the optimiser keeps of each."""
    state = checkpoint.load(run.folder)
    assert state is not None
    moments = {
        f"{key}.{name}": value for key, kept in state["optimizer"]["state"].items() for name, value in kept.items()
    }
    return [load_file(run.folder / "best.safetensors"), state["model"], moments]


@pytest.mark.slow
def test_a_run_that_broke_three_times_ends_as_one_that_never_did(tmp_path: Path) -> None:
    data = paint(tmp_path / "data")
    whole, broken = Run(tmp_path / "whole", data), Run(tmp_path / "broken", data)
    with whole.started() as unbroken:
        broken.killed_at(20)
        broken.killed_at(60)
        stopped_by_a_full_disk(broken)
        with broken.started() as last:
            for process in (last, unbroken):
                output = process.communicate()[0]
                assert process.returncode == 0, output
    assert journal.read(broken.folder) == journal.read(whole.folder)
    assert shown(broken.folder) == told(whole.folder)
    for ours, theirs in zip(weights(broken), weights(whole), strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def stopped_by_a_full_disk(run: Run) -> None:
    """No file may grow to the size of a checkpoint: what a full disk looks like to one process."""
    kept = (run.folder / checkpoint.FILE).read_bytes()
    with run.started("--publish", "painted") as process:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (len(kept) // 2, len(kept) // 2))
        output = process.communicate()[0]
    assert process.returncode == 1, output
    assert "RESOURCE_EXHAUSTED" in output and "is full: make room and run the same command again" in output
    assert "Traceback" not in output
    assert (run.folder / checkpoint.FILE).read_bytes() == kept
    assert not list(run.folder.glob("*.tmp"))
    assert run.store.names() == []


WRITER = """
import sys, torch
from pathlib import Path
from training import checkpoint
from training.checkpoint import Place
from training.optimiser import optimizer_of, schedule_of
from training.plan import Plan

net = torch.nn.Linear(1000, 1500)
optimizer = optimizer_of(net, Plan())
schedule = schedule_of(optimizer, Plan(), 1)
for step in range(1, 1_000_000):
    torch.nn.init.constant_(net.weight, step)
    place = Place(step=step)
    checkpoint.save(Path(sys.argv[1]), net, optimizer, schedule, place, {}, [checkpoint.random_states()])
    print(step, flush=True)
"""


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path: Path) -> None:
    torn = 0
    for attempt in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.01 * attempt)
        while not (tmp_path / "checkpoint.pt.tmp").exists():
            time.sleep(0)
        process.kill()
        told = process.communicate()[0].split()
        torn += (tmp_path / "checkpoint.pt.tmp").exists()
        state = checkpoint.load(tmp_path)
        assert state is not None
        step = state["place"]["step"]
        assert torch.equal(state["model"]["weight"], torch.full((1500, 1000), float(step)))
        assert step >= int(told[-1] if told else 1)
        if torn:
            return
    pytest.fail("no kill fell into a write")
