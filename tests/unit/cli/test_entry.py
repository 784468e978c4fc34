"""The command line as a shell meets it: exit codes, Ctrl-C, completion, what it says to a slip."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.__main__ import app
from cli.client import CallFailed, Client
from cli.ports import any_free
from services.runtime.store.store import ModelStore

# Completes as a person's bash does who typed the words and pressed Tab.
TAB = """
eval "$(_MAAS_COMPLETE=source_bash maas)"
COMP_WORDS=(maas "$@"); COMP_CWORD=$#
_maas_completion maas
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment that finds `maas`, as installed, on its PATH."""
    script = tmp_path / "bin" / "maas"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nfrom cli.entry import main\nmain()\n")
    script.chmod(0o755)
    paths = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PATH": f"{script.parent}:{os.environ['PATH']}", "PYTHONPATH": paths}


def test_bash_completes_commands_and_the_stores_models(shell: dict[str, str], tmp_path: Path) -> None:
    for name in ("mine", "minor", "other"):
        with ModelStore(tmp_path / "store").publish(name) as draft:
            draft.fields = {"tasks": ["vision.classify"], "runner": "none"}
    shell["MAAS_STORE"] = str(tmp_path / "store")

    def tab(*words: str) -> list[str]:
        command = ["bash", "-c", TAB, "tab", *words]
        return subprocess.run(command, env=shell, capture_output=True, text=True, check=True).stdout.split()

    assert tab("doc") == ["doctor"]
    assert tab("models", "show", "mi") == ["mine", "minor"]


@pytest.fixture
def heeding() -> Iterator[None]:
    """Processes started here heed Ctrl-C: a child inherits that it is ignored, as in a background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding")
def test_ctrl_c_while_modules_are_read_leaves_no_traceback(shell: dict[str, str]) -> None:
    process = subprocess.Popen(["maas", "models", "list"], env=shell, stderr=subprocess.PIPE, text=True)
    reading = Path(f"/proc/{process.pid}/maps")
    while "grpc" not in reading.read_text():
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    told = process.communicate()[1]
    assert process.returncode == 130 and "Traceback" not in told


@pytest.mark.parametrize(
    ("typed", "meant"), [(["statsu"], "status"), (["models", "shw"], "show"), (["call", "tokenise"], "tokenize")]
)
def test_a_slip_is_told_the_nearest_command(typed: list[str], meant: str) -> None:
    result = CliRunner().invoke(app, typed, env={"COLUMNS": "200"})
    assert result.exit_code == 2 and f"'{meant}'" in result.stderr


def test_where_nobody_answers_the_way_to_a_suite_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from cli.answers import print_failure

    with Client(f"127.0.0.1:{any_free('127.0.0.1')}", 5, {}) as client, pytest.raises(CallFailed) as failed:
        client.call("GatewayService/GetStatus")
    print_failure(failed.value)
    assert failed.value.nobody and "`maas up` starts the suite" in capsys.readouterr().err
