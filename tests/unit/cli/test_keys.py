"""`maas keys`, on a real file."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.__main__ import app
from services.runtime.errors import NotFound, Unauthenticated
from services.runtime.identity import keys


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["keys", *arguments], env={"COLUMNS": "200"})
    if result.exception:
        raise result.exception
    return result.stdout


def test_made_listed_revoked(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys.toml"
    file = ("--file", str(path))
    first = run("new", "--tenant", "acme", "--role", "reader", "--role", "writer", *file).strip()
    second = run("new", "--tenant", "umbrella", "--name", "ci", "--days", "1", *file).strip()
    assert path.stat().st_mode & 0o777 == 0o600
    assert first not in path.read_text() and first.split("_")[2] not in path.read_text()
    now, found = datetime.now(UTC), keys.parse(path.read_text())
    assert (found.of_key(first, now).tenant, found.of_key(first, now).roles) == ("acme", {"reader", "writer"})
    assert found.of_key(second, now).name == "ci"
    shown = run("list", *file)
    assert "acme" in shown and "umbrella" in shown and "reader writer" in shown
    run("revoke", first[5:17], *file)
    with pytest.raises(Unauthenticated):
        keys.parse(path.read_text()).of_key(first, now)
    with pytest.raises(NotFound, match=second[5:17]):
        run("revoke", first[5:17], *file)
