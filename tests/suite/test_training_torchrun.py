"""`torchrun … maas train`: the curve of one process, one writer, and an end for all when one of them dies."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from services.runtime.store.store import ModelStore
from tests.unit.training.painted import paint
from tests.unit.training.test_language_recipes import SHEEP
from training import journal

BIN = Path(sys.executable).parent
Maas = subprocess.Popen[str]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """29 training rows: parts of a batch are uneven, and one row is left for the last."""
    return paint(tmp_path / "data", 21)


@contextmanager
def maas(processes: int, *arguments: str) -> Iterator[Maas]:
    """The command by so many processes, gone with all of them when the block ends."""
    launch = [str(BIN / "torchrun"), "--standalone", f"--nproc-per-node={processes}", "--no-python"]
    command = [*(launch if processes > 1 else ()), str(BIN / "maas"), *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, start_new_session=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)


def trained(home: Path, data: Path, **settings: object) -> list[str]:
    chosen = {"size": 16, "batch_size": 4, "epochs": 2, "threads": 1, **settings}
    options = ["--data", str(data), "--home", str(home), "--store", str(home / "store")]
    return ["train", "lenet-rgb", *(f"--set={key}={value}" for key, value in chosen.items()), *options]


def ended(process: Maas, code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=100)
    assert process.returncode == code, out + err
    return out, err


def folder(home: Path) -> Path:
    return home / "training" / "lenet-rgb"


def assert_like(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    assert len(one) == len(other)
    for ours, theirs in zip(one, other, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.slow
def test_two_processes_train_as_one_does_and_one_of_them_speaks(tmp_path: Path, data: Path) -> None:
    alone, both = tmp_path / "alone", tmp_path / "both"
    with maas(1, *trained(alone, data)) as one, maas(2, *trained(both, data)) as two:
        ended(one)
        out, _ = ended(two)
    assert_like(journal.read(folder(both)), journal.read(folder(alone)))
    weights = [load_file(folder(home) / "best.safetensors") for home in (both, alone)]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-4) for name in weights[1])
    assert len(list(folder(both).glob("events.*"))) == out.count("steps in") == 1


def ranks(launcher: Maas) -> dict[int, int]:
    """Rank → process id of the processes that the launcher started."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(launcher.pid)], capture_output=True, text=True)
    found = {}
    for pid in map(int, listed.stdout.split()):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        found |= {int(one.removeprefix(b"RANK=")): pid for one in environment if one.startswith(b"RANK=")}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_is_killed_ends_all_and_the_run_goes_on_exactly(tmp_path: Path, data: Path, rank: int) -> None:
    settings = {"epochs": 60, "checkpoint_s": 0.05}
    whole, broken = trained(tmp_path / "whole", data, **settings), trained(tmp_path / "broken", data, **settings)
    with maas(2, *broken) as killed:
        while len(journal.read(folder(tmp_path / "broken"))) < 50:
            assert killed.poll() is None, killed.communicate()
            time.sleep(0.01)
        processes = ranks(killed)
        os.kill(processes[rank], signal.SIGKILL)
        out, err = ended(killed, code=1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes.values())
    assert "Connection" not in out + err or "another process of this run has ended" in err
    with maas(2, *broken, "--publish", "painted") as resumed, maas(2, *whole) as unbroken:
        out, err = ended(resumed)
        ended(unbroken)
    assert out.count("published painted version 1") == 1, out + err
    assert ModelStore(tmp_path / "broken" / "store").versions("painted") == [1]
    assert journal.read(folder(tmp_path / "broken")) == journal.read(folder(tmp_path / "whole"))
    last = [(folder(tmp_path / name) / "best.safetensors").read_bytes() for name in ("broken", "whole")]
    assert last[0] == last[1]


def test_what_one_process_is_refused_ends_all(tmp_path: Path, data: Path) -> None:
    with maas(2, *trained(tmp_path, data, learning_rte=1)) as process:
        out, err = ended(process, code=1)
    assert "INVALID_ARGUMENT learning_rte: unknown setting" in err
    assert "cli/train.py" not in err  # torchrun shows where it gave up itself, not where the command did
    assert not folder(tmp_path).exists() and not out.strip()


@pytest.mark.slow
def test_digits_are_learnt_as_well_by_two(tmp_path: Path) -> None:
    curves, accuracy = [], []
    for processes in (1, 2):
        home = tmp_path / str(processes)
        with maas(
            processes, "train", "mlp-mnist", "--set=epochs=2", "--set=threads=1", "--home", str(home)
        ) as process:
            ended(process)
        run = home / "training" / "mlp-mnist"
        curves.append([line for line in journal.read(run) if line["step"] <= 100])
        accuracy.append(json.loads((run / "report.json").read_text())["metrics"]["accuracy"])
    assert_like(*curves)
    assert accuracy[0] == pytest.approx(accuracy[1], abs=0.01)
    assert min(accuracy) > 0.85


@pytest.mark.slow
def test_adapters_on_frozen_weights_are_learnt_by_two_as_by_one(tmp_path: Path) -> None:
    (tmp_path / "sheep.txt").write_text(SHEEP)
    common = ["--data", str(tmp_path / "sheep.txt"), "--store", str(tmp_path / "store")]
    common += [f"--set={key}={value}" for key, value in {"context": 32, "threads": 1, "epochs": 2}.items()]
    tiny = ["--set=preset=small", "--set=vocab_size=300", "--publish", "base", "--home", str(tmp_path)]
    with maas(1, "train", "transformer-lm", *common, *tiny) as process:
        ended(process)
    curves = []
    for processes in (1, 2):
        home = tmp_path / str(processes)
        chosen = ["--set=base=base", "--set=steps=5", "--set=batch_size=3", "--home", str(home)]
        with maas(processes, "train", "gpt2-finetune", *common, *chosen) as process:
            ended(process)
        curves.append(journal.read(home / "training" / "gpt2-finetune"))
        kept = load_file(home / "training" / "gpt2-finetune" / "best.safetensors")
        assert {name.split(".")[-1] for name in kept} == {"up", "down"}
    assert_like(*curves)
