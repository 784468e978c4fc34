"""pip while a first `make up` waits for it: what it is at, its exit code, and all it said where it fails."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from cli import installing

SAYS = "import time; print('Collecting torch', flush=True); time.sleep(0.3); print('Done')"


def test_a_pip_that_succeeds_says_nothing_where_nobody_looks(capfd: pytest.CaptureFixture[str]) -> None:
    assert installing.run([sys.executable, "-c", SAYS]) == 0
    assert capfd.readouterr() == ("", "")


def test_a_pip_that_fails_says_all_and_its_code(capfd: pytest.CaptureFixture[str]) -> None:
    assert installing.run([sys.executable, "-c", f"{SAYS}; raise SystemExit('no such package')"]) == 1
    said = capfd.readouterr().err
    assert "Collecting torch" in said and said.endswith("no such package\n")


def test_what_takes_long_is_told_from_time_to_time(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installing, "QUIET_EVERY_S", 0.05)
    monkeypatch.setattr(installing, "EVERY_S", 0.1)
    assert installing.run([sys.executable, "-c", SAYS]) == 0
    assert "0 s  Collecting torch\n" in capfd.readouterr().err


def test_a_terminal_shows_one_line_that_is_gone_in_the_end() -> None:
    ours, theirs = pty.openpty()
    script = Path(installing.__file__)
    command = [sys.executable, script, sys.executable, "-c", SAYS]
    subprocess.run(command, stdout=theirs, stderr=theirs, check=True)
    said = os.read(ours, 1 << 16).decode()
    for end in (ours, theirs):
        os.close(end)
    assert "\r\x1b[K   0 s  Collecting torch" in said and said.endswith("\r\x1b[K") and "\n" not in said
