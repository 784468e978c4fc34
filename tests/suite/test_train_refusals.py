"""`maas train`, once as a process, given what cannot be used: it says so, publishes nothing and loses nothing."""

import hashlib
import json
import subprocess
import sys
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from cli.__main__ import main
from services.runtime.store.store import ModelStore

SERIES = "hour,level\n" + "".join(f"{hour},{hour % 12}\n" for hour in range(120))


class Desk:
    """A folder with a store, a cache and a user's files."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def maas(self, *arguments: str, apart: bool = False) -> subprocess.CompletedProcess[str]:
        """The command as its entry point runs it, here or in a process of its own."""
        places = [f"--{name}={self.root / name}" for name in ("root", "home", "cache")]
        words = [*arguments, "--set", "threads=1", *places]
        if apart:
            command = [sys.executable, "-m", "cli", *words]
            return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        out, err, code = StringIO(), StringIO(), 0
        with redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["maas", *words])
            try:
                main()
            except SystemExit as ended:
                code = int(ended.code or 0)
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    def write(self, name: str, content: str | bytes) -> str:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def published(self) -> dict[str, str]:
        """Every file of the store and its hash."""
        files = (path for path in sorted((self.root / "root").rglob("*")) if path.is_file())
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """With one version of `levels`, published by the command that the refused ones repeat."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    own = desk.write("levels.csv", SERIES)
    done = desk.maas("train", "rnn-forecast", "--data", own, "--set", "epochs=1", "--publish", "levels")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fitted to 0 to 83 (84 steps)" in done.stderr and "published levels version 1" in done.stdout
    assert ModelStore(desk.root / "root").resolve("levels").provenance.source == "file:levels.csv"
    return desk


def wheel(desk: Desk, content: bytes) -> Path:
    """The package of the sunspots as if it had been downloaded before, with this content."""
    path = Path(desk.write("cache/archives/statsmodels-0.15.0/statsmodels-0.15.0-any.whl", b""))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("statsmodels/datasets/sunspots/sunspots.csv", content)
    return path


def refused(desk: Desk, *arguments: str, apart: bool = False) -> str:
    """What the command said; it failed, without a traceback, and the store is what it was."""
    before = desk.published()
    done = desk.maas("train", *arguments, "--publish", "levels", apart=apart)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and not done.stdout
    assert before and desk.published() == before
    return " ".join(done.stderr.split())


def test_a_damaged_package_is_told(desk: Desk) -> None:
    wheel(desk, b"YEAR,SUNACTIVITY\n1700,6\n")
    said = refused(desk, "rnn-forecast")
    assert "sunspots.csv has sha256" in said and "wanted f67889b1d9002cd5" in said
    path = wheel(desk, b"YEAR,SUNACTIVITY\n1700,5\n" * 99)
    path.write_bytes(path.read_bytes()[:-30])
    assert "is a damaged archive" in refused(desk, "rnn-forecast")


@pytest.mark.parametrize(
    ("recipe", "name", "content", "said"),
    [
        ("rnn-forecast", "torn.csv", SERIES.encode()[:-9] + b"\xff\xfe\n", "data: torn.csv line 120 is not UTF-8"),
        (
            "lstm-classify",
            "bent.csv",
            "series,step,label,x\na,0,up,1\na,1,up\n",
            "line 3 has 3 cells, the header 4",
        ),
        ("bert-classify", "half.jsonl", '{"text": "a", "label": 0.5}\n', "line 1: label is a number"),
        ("transformer-lm", "cut.jsonl", '{"text": "a"}\n{"tex', "data: cut.jsonl line 2 is no JSON"),
        ("lenet-rgb", "one/red/a.png", b"\x89PNG", "has 1 sub-folders; two classes are needed"),
    ],
)
def test_a_damaged_file_of_one_s_own_is_told(
    desk: Desk, recipe: str, name: str, content: str | bytes, said: str
) -> None:
    path = desk.write(name, content)
    data = path if name.count("/") == 0 else str(Path(path).parents[1])
    assert said in refused(desk, recipe, "--data", data, apart=recipe == "rnn-forecast")


def test_settings_that_do_not_exist_or_are_out_of_range_are_told(desk: Desk) -> None:
    own = ("--data", str(desk.root / "levels.csv"))
    assert "windows: unknown setting; known: seed, epochs" in refused(desk, "rnn-forecast", "--set", "windows=3")
    assert "120 rows are too few for a window of 80" in refused(desk, "rnn-forecast", *own, "--set", "window=80")


def test_what_was_there_before_is_whole(desk: Desk) -> None:
    store = ModelStore(desk.root / "root")
    manifest = store.resolve("levels")
    store.verify(manifest)
    assert manifest.version == 1 and (store.directory(manifest) / "plots" / "forecast.png").is_file()
    run = desk.root / "home" / "training" / "rnn-forecast"
    assert json.loads((run / "data.json").read_text())["parts"]["test"]["rows"] == 24
    assert {"checkpoint.pt", "report.json", "forecast.png"} <= {path.name for path in run.iterdir()}
