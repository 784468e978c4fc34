"""`maas evaluate` as a command: what it prints, what it saves, how it refuses and how it is stopped."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli import evaluate as command
from cli.__main__ import app
from services.runtime.errors import InvalidInput, NotFound
from services.runtime.store.manifest_file import DamagedModel
from tests.unit.training import stored
from training import evaluation


@pytest.fixture
def model(tmp_path: Path) -> stored.Stored:
    return stored.forecaster(tmp_path / "store")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "own.csv"
    path.write_text(
        "t,v,slice_mood\n"
        + "".join(f"{t},{t % 5},{'odd' if t % 2 else 'even'}\n" for t in range(50))
        + "50,x,odd\n"
    )
    return path


def maas(model: stored.Stored, *arguments: str) -> Result:
    return CliRunner().invoke(
        app, ["evaluate", "small", "--store", str(model.store.root), "--threads", "1", *arguments]
    )


def test_the_report_names_the_worst_group_the_gap_and_what_was_left_out(model: stored.Stored, data: Path) -> None:
    told = maas(model, "--data", str(data), "--horizon", "2", "--slice", "mood")
    assert told.exit_code == 0, told.output
    assert "mse_2_steps" in told.stdout and "skill_over_last_value" in told.stdout
    assert "worst mood: " in told.stdout and "above the best" in told.stdout and "worst period" not in told.stdout
    assert "left out as without a finite number: line 52: v is 'x'" in told.stdout
    assert "evaluations" not in model.store.card(model.manifest), "nothing is saved unless asked for"


def test_json_is_the_whole_report_and_only_that(model: stored.Stored, data: Path) -> None:
    told = json.loads(maas(model, "--data", str(data), "--json").stdout)
    assert (told["model"], told["version"], told["data"]) == ("small", 1, str(data))
    assert set(told) == {"model", "version", "data", "metrics", "baseline", "slices", "details"}
    assert {"period", "mood"} == set(told["slices"]) and told["details"]["small_groups"]["period"]


def test_save_puts_the_report_into_the_card(model: stored.Stored, data: Path) -> None:
    told = maas(model, "--data", str(data), "--save")
    assert "saved in the card of small/1" in told.stderr
    kept = model.store.card(model.manifest)["evaluations"]["own.csv"]
    assert kept["metrics"]["mse"] > 0 and kept["evaluated_at"].endswith("+00:00")


def test_what_cannot_be_measured_is_refused_and_nothing_saved(model: stored.Stored, data: Path) -> None:
    for arguments, kind in (
        (("--data", str(data), "--slice", "colour"), NotFound),
        (("--data", "nowhere.csv"), NotFound),
        (("--data", "mnist"), InvalidInput),
        (("--data", str(data), "--version", "7"), NotFound),
    ):
        told = maas(model, *arguments, "--save")
        assert isinstance(told.exception, kind), told.output
    assert "evaluations" not in model.store.card(model.manifest)


def test_a_damaged_version_is_not_measured(model: stored.Stored, data: Path) -> None:
    weights = model.store.directory(model.manifest) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert isinstance(maas(model, "--data", str(data), "--save").exception, DamagedModel)
    assert "evaluations" not in model.store.card(model.manifest)


def test_of_very_many_groups_the_worst_are_shown(model: stored.Stored, tmp_path: Path) -> None:
    lines = [f"{t},{(t * t) % 97},g{t % 40:02}\n" for t in range(200)]
    (tmp_path / "many.csv").write_text("t,v,slice_group\n" + "".join(lines))
    told = maas(model, "--data", str(tmp_path / "many.csv"), "--slice", "group").stdout
    assert "15 more, by --json" in told and told.count("\ngroup") == 26


def test_ctrl_c_ends_with_a_line_and_saves_nothing(
    model: stored.Stored, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "evaluate", interrupted)
    told = maas(model, "--data", str(data), "--save")
    assert told.exit_code == 130 and "nothing was saved" in told.stderr and not told.stdout
    assert "evaluations" not in model.store.card(model.manifest)


def test_what_takes_long_says_so_on_stderr(
    model: stored.Stored, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "evaluating" not in maas(model, "--data", str(data)).output
    whole = evaluation.evaluate

    def slow(*given: Any) -> Any:
        for waiting in threading.enumerate():
            if isinstance(waiting, threading.Timer):
                waiting.join()
        return whole(*given)

    monkeypatch.setattr(command, "PATIENCE_S", 0.0)
    monkeypatch.setattr(evaluation, "evaluate", slow)
    found = maas(model, "--data", str(data), "--json")
    assert "evaluating small/1 on" in found.stderr and json.loads(found.stdout)["model"] == "small"
