"""Real publishing commands, killed by SIGKILL in the middle or stopped by a full disk: the store stays whole."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from services.runtime.store.store import ModelStore

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]

# Kills of each command, and the longest time after it began to write a version; `train` writes for about a second.
KILLS = {"train": (4, 1.0), "import": (12, 0.08)}
MANIFEST = 'tasks = ["vision.classify"]\narchitecture = "mnist_cnn"\n'
# Not by preexec_fn: gRPC's threads in this process do not bear a fork.
LIMITED = """
import os, resource, sys
most = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
os.execv(sys.executable, [sys.executable, "-m", "cli", *sys.argv[2:]])
"""

# It has everything imported and forks: a fork runs `maas` again and again until its kill comes.
PUBLISHER = """
import json, os, signal, sys, time
from pathlib import Path
import torch
from cli.__main__ import app
from services.runtime.runners import choose
from training import publish, run
from training.recipes import table

def drafts(root):
    return {path for path in (root / ".staging").glob("*") if path.is_dir()}

torch.set_num_threads(1)
root = Path(sys.argv[1])
for line in sys.stdin:
    seconds, command = json.loads(line)
    before = drafts(root)
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        while True:
            app(command, standalone_mode=False)
    while drafts(root) <= before and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.0005)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print(json.dumps([os.WTERMSIG(status), len(drafts(root))]), flush=True)
"""


class Shop:
    """A store, and the commands that publish into it: a recipe of a second, and weights in a file."""

    def __init__(self, folder: Path, store: Path | None = None) -> None:
        self.store, self._home = ModelStore(store or folder / "store"), folder / "home"
        np.savez(folder / "weights.npz", w=np.arange(1 << 18, dtype=np.float32))
        (folder / "manifest.toml").write_text(MANIFEST)
        at = ["--store", str(self.store.root)]
        run = ["--home", str(self._home), "--set", "epochs=1", "--set", "threads=1"]
        weights = [str(folder / "weights.npz"), "weights", "--manifest", str(folder / "manifest.toml")]
        self.train = ["train", "rnn-forecast", "--publish", "spots", *run, *at]
        self.import_ = ["models", "import", *weights, *at]

    def maas(self, *command: str, largest_file: int = -1) -> subprocess.CompletedProcess[str]:
        """The command as a process of its own, whose files cannot grow beyond `largest_file` bytes."""
        return subprocess.run(
            [sys.executable, "-c", LIMITED, str(largest_file), *command],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    def published(self, newest: int = 1000) -> dict[str, list[int]]:
        """Versions by name; the `newest` of each are whole, or DamagedModel is raised."""
        found = {name: self.store.versions(name) for name in self.store.names()}
        for name, versions in found.items():
            assert versions == list(range(1, len(versions) + 1))
            for version in versions[-newest:]:
                self.store.verify(self.store.manifest(name, version))
        return found

    def drafts(self) -> list[Path]:
        return list((self.store.root / ".staging").glob("*"))


@contextmanager
def looked_at(shop: Shop) -> Iterator[list[Any]]:
    """Someone reads the store all the while; yields what it found, errors among them."""
    found: list[Any] = []
    stop = Event()

    def look() -> None:
        while not stop.wait(0.01):
            try:
                found.append(shop.published(newest=2))
            except Exception as error:
                found.append(error)

    reader = Thread(target=look)
    reader.start()
    try:
        yield found
    finally:
        stop.set()
        reader.join()


@contextmanager
def publisher(root: Path) -> Iterator[Any]:
    """`kill(seconds, command)`: (signal it ended by, drafts left over)."""
    script = [sys.executable, "-c", PUBLISHER, str(root)]
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None

        def kill(seconds: float, command: list[str]) -> Any:
            process.stdin.write(json.dumps([seconds, command]) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield kill
        process.stdin.close()


def test_kills_leave_whole_versions_and_the_next_publisher_cleans_up(tmp_path: Path) -> None:
    shop, draw = Shop(tmp_path), random.Random(7)
    commands = {"train": shop.train, "import": shop.import_}
    kills = [
        (commands[kind], draw.uniform(0, most)) for kind, (count, most) in KILLS.items() for _ in range(count)
    ]
    draw.shuffle(kills)
    with looked_at(shop) as found, publisher(shop.store.root) as kill:
        ended = [kill(seconds, command) for command, seconds in kills]
    assert all(isinstance(one, dict) for one in found), [one for one in found if not isinstance(one, dict)]
    assert all(number == 9 for number, _ in ended)
    assert sum(left > 0 for _, left in ended) >= len(kills) // 4, "kills must meet half-written versions"
    told = json.loads(shop.maas("models", "list", "--json", "--store", str(shop.store.root)).stdout)
    assert {(one["model"], int(one["version"])) for one in told} == {
        (name, version) for name, versions in shop.published().items() for version in versions
    }
    assert not any(one["digest"] == "damaged" for one in told)
    before = shop.published()
    last = shop.maas(*shop.import_)
    assert last.returncode == 0, last.stderr
    assert len(shop.published()["weights"]) == len(before.get("weights", [])) + 1
    assert shop.drafts() == []


def test_importing_what_the_disk_does_not_take(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    assert shop.maas(*shop.import_).returncode == 0
    done = shop.maas(*shop.import_, largest_file=1 << 18)
    assert (done.returncode, shop.published(), shop.drafts()) == (1, {"weights": [1]}, [])
    assert "is full: make room" in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
def test_publishing_to_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    shop = Shop(tmp_path, small_disk / "store")
    assert shop.maas(*shop.import_).returncode == 0
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 24 * 1024))
    done = shop.maas(*shop.train)
    assert (done.returncode, shop.published(), shop.drafts()) == (1, {"weights": [1]}, [])
    assert "is full: make room" in done.stderr and "Traceback" not in done.stderr
    ballast.unlink()
    assert shop.maas(*shop.train).returncode == 0
    assert shop.published() == {"spots": [1], "weights": [1]}
