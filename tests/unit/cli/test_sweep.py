"""`maas train … --sweep` on a painted folder: a table, one winner, a card that holds the table."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.__main__ import app
from cli.sweep import grid_of, show_outcomes
from services.runtime.errors import InvalidInput
from services.runtime.store.store import ModelStore
from tests.unit.training.painted import paint
from training.sweep import Outcome


def train(tmp_path: Path, *arguments: str) -> Result:
    places = "--store", str(tmp_path / "store"), "--home", str(tmp_path / "home"), "--set", "threads=1"
    return CliRunner().invoke(app, ["train", *arguments, *places])


def test_a_sweep_shows_every_point_and_publishes_the_best(tmp_path: Path) -> None:
    data = str(paint(tmp_path / "own"))
    sizes = "--data", data, "--set", "size=16", "--set", "epochs=2"
    grid = "--sweep", "learning_rate=1e-9,0.01", "--sweep", "optimizer=sgd,adam"
    told = train(tmp_path, "lenet-rgb", *sizes, *grid, "--publish", "painted")
    assert told.exit_code == 0, told.output
    rows = [line.split() for line in told.stdout.splitlines() if line.startswith(("1e-09", "0.01"))]
    assert [row[:2] for row in rows] == [[rate, kind] for rate in ("1e-09", "0.01") for kind in ("sgd", "adam")]
    assert [row[-1] == "chosen" for row in rows].count(True) == 1
    assert "published painted version 1" in told.stdout
    home = tmp_path / "home" / "training" / "sweep" / "lenet-rgb"
    kept = json.loads((home / "sweep.json").read_text())
    assert len([path for path in home.iterdir() if path.is_dir()]) == len(kept) == 4
    assert sum((path / "report.json").is_file() for path in home.iterdir()) == 1
    store = ModelStore(tmp_path / "store")
    assert store.card(store.resolve("painted"))["details"]["sweep"] == kept
    again = train(tmp_path, "lenet-rgb", *sizes, *grid, "--json")  # every point is there: nothing is trained anew
    assert json.loads(again.stdout)["details"]["sweep"] == kept


def test_a_wrong_point_stops_the_sweep_before_it_begins(tmp_path: Path) -> None:
    for wrong, told in (
        (["--sweep", "epochs=1,0"], "epochs: "),
        (["--sweep", "epochs"], "not key=a,b,c"),
        (["--sweep", "epochs=1", "--sweep", "epochs=2"], "told twice"),
        (["--quick", "--sweep", "epochs=1,2"], "--quick sets epochs"),
        (["--sweep", "data=x,y"], "data decides"),
    ):
        found = train(tmp_path, "lenet-rgb", *wrong)
        assert isinstance(found.exception, InvalidInput) and told in str(found.exception)
    assert not (tmp_path / "home").exists() and not (tmp_path / "store").exists()


def test_points_of_equal_score_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    show_outcomes([Outcome({"seed": seed}, score, 1, 2, 0.5) for seed, score in enumerate((0.5, None, 0.9, 0.9))])
    assert "2 points have the highest score: the first of them was chosen" in capsys.readouterr().out
    show_outcomes([Outcome({"seed": 0}, 0.5, 1, 2, 0.5)])
    assert "highest" not in capsys.readouterr().out


def test_the_grid_is_read_from_pairs() -> None:
    assert grid_of(["a=1,2", "b=x"]) == {"a": ["1", "2"], "b": ["x"]}
    with pytest.raises(InvalidInput):
        grid_of(["=1"])
