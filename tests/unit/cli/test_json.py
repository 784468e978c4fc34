"""`--json`: one document on stdout and nothing else, whatever a command does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cli.__main__ import app
from services.runtime.store.store import ModelStore

Ask = Callable[..., Any]
# They print what somebody else wants (a script, a table of a run) and no facts of their own, or speak JSON by
# `maas call --json`.
OTHERWISE = {"call"}


def ask(*arguments: str) -> Any:
    """What a command says with --json."""
    result = CliRunner().invoke(app, [*arguments, "--json"])
    if result.exception:
        raise result.exception
    return json.loads(result.stdout)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    made = ModelStore(tmp_path / "store")
    for _ in range(3):
        with made.publish("net") as draft:
            (draft.directory / "weights").write_bytes(b"1234")
            draft.fields = {"tasks": ["vision.classify"], "runner": "none"}
    return made


def test_models(store: ModelStore) -> None:
    where = ("--store", str(store.root))
    assert [one["version"] for one in ask("models", "verify", "net", *where)] == [3]
    assert set(ask("models", "verify", *where)[0]["files"]) == {"weights"}
    labelled = ask("models", "label", "net", "stable", "2", *where)
    assert labelled == {"model": "net", "labels": {"stable": 2}, "answering": 2}
    assert ask("models", "rollback", "net", *where) == {"model": "net", "before": 2, "stable": 1}
    assert ask("models", "remove", "net", "3", *where) == {"model": "net", "removed": 3, "versions": [1, 2]}


def test_keys(tmp_path: Path) -> None:
    file = ("--file", str(tmp_path / "keys.toml"))
    made = ask("keys", "new", "--tenant", "acme", "--role", "reader", *file)
    assert made["key"].startswith(f"maas_{made['id']}_") and made["expires"] is None
    listed = ask("keys", "list", *file)
    assert listed == [{"id": made["id"], "name": "acme", "tenant": "acme", "roles": ["reader"], "expires": None}]
    assert ask("keys", "revoke", made["id"], *file) == {"revoked": made["id"], "left": 0}


def test_certificates(tmp_path: Path) -> None:
    where = ("--directory", str(tmp_path))
    assert ask("certs", "server", *where)["MAAS_TLS_KEY"] == str(tmp_path / "server.key")
    ask("certs", "client", "ci", *where)
    (tmp_path / "ci.pem").write_text("no")
    told = {one["name"]: one for one in ask("certs", "list", *where)}
    assert told["server"]["good_until"] and "holds no certificate" in told["ci"]["problem"]


def test_down_and_status_where_nothing_is_up(tmp_path: Path) -> None:
    assert ask("down", "--home", str(tmp_path)) == {"was_up": False, "ended": []}


def commands(group: Any, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The names of every command, group by group."""
    found: list[tuple[str, ...]] = []
    for name, command in group.commands.items():
        inside = hasattr(command, "commands")
        found += commands(command, (*above, name)) if inside else [(*above, name)]
    return found


def test_every_command_that_tells_facts_takes_json() -> None:
    root: Any = typer.main.get_command(app)
    for path in commands(root):
        if path[0] in OTHERWISE:
            continue
        command = root
        for name in path:
            command = command.commands[name]
        assert any("--json" in option.opts for option in command.params), " ".join(path)
