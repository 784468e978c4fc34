"""Settings every server shares: what a bad value is told as, and what it must not repeat."""

import pytest

from services.runtime.redaction import redact
from services.runtime.settings import ServerSettings, load, secrets_of


def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **environment: str) -> str:
    """What a server says that does not start."""
    for name, value in environment.items():
        monkeypatch.setenv(f"MAAS_{name.upper()}", value)
    with pytest.raises(SystemExit):
        load(ServerSettings, [], "server")
    return capsys.readouterr().err


def test_bodies_are_not_logged_and_texts_are_redacted_by_default():
    found = ServerSettings()
    assert found.body_redactor is None and found.log_redactor is redact
    assert ServerSettings(log_bodies=True, redact=False).body_redactor is redact
    assert ServerSettings(redact=False).log_redactor is None


def test_an_operators_redactor_takes_the_place_of_the_own_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MAAS_REDACTOR", "textwrap:dedent")
    found = load(ServerSettings, ["--log-bodies"], "server")
    assert found.log_redactor is not None and found.log_redactor("  x") == "x"
    assert found.body_redactor is not None and found.body_redactor("  x") == "x"


def test_a_redactor_that_cannot_be_used_stops_the_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    said = told(monkeypatch, capsys, redactor="nowhere:clean")
    assert "MAAS_REDACTOR='nowhere:clean'" in said and "No module named 'nowhere'" in said


def test_a_password_in_a_bad_value_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    said = told(monkeypatch, capsys, log_level="redis://:hunter2@cache/0")
    assert "MAAS_LOG_LEVEL='redis://[SECRET]@cache/0'" in said and "hunter2" not in said


def test_the_floors_secrets():
    assert secrets_of(ServerSettings) == {"mesh_key", "trace_headers"}
