"""`maas train` and `maas evaluate` on a painted folder and a store made on the spot."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.__main__ import app
from services.runtime.errors import InvalidInput, NotFound
from services.runtime.store.store import ModelStore
from tests.unit.training.painted import paint
from training.recipes import table
from training.recipes.lenet_rgb import LeNetRgb


def maas(tmp_path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--store", str(tmp_path / "store")])


def train(tmp_path: Path, *arguments: str) -> Result:
    return maas(tmp_path, "train", *arguments, "--home", str(tmp_path / "home"), "--set", "threads=1")


def test_train_publish_and_evaluate_by_command(tmp_path: Path) -> None:
    data = str(paint(tmp_path / "own"))
    told = train(tmp_path, "lenet-rgb", "--data", data, "--quick", "--set", "size=16", "--publish", "painted")
    assert told.exit_code == 0, told.output
    assert "published painted version 1" in told.output and "worst label:" in told.output
    made = ModelStore(tmp_path / "store").resolve("painted")
    assert made.runner in ("torch", "onnxruntime")
    told = maas(tmp_path, "evaluate", "painted", "--data", data, "--json")
    report = json.loads(told.stdout)
    assert report["version"] == 1 and report["slices"]["label"]["red"]["count"] == 4, "its test rows"
    told = maas(tmp_path, "evaluate", "painted", "--data", data)
    assert "worst label:" in told.output and told.exit_code == 0


def test_all_trains_every_recipe_and_tells_which_could_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Painted(LeNetRgb):
        name = "painted"

        def begin(self, plan, fetcher):  # type: ignore[no-untyped-def]
            own = plan.model_copy(update={"data": str(tmp_path / "own"), "size": 16})
            return super().begin(own, fetcher)

    class Broken(LeNetRgb):
        name = "broken"

        def begin(self, plan, fetcher):  # type: ignore[no-untyped-def]
            raise InvalidInput("data", "is not there")

    paint(tmp_path / "own")
    monkeypatch.setattr(table, "RECIPES", {"broken": Broken(), "painted": Painted()})
    told = train(tmp_path, "all", "--quick")
    assert told.exit_code == 1
    lines = told.stdout.splitlines()
    assert any(line.startswith("broken") and "is not there" in line for line in lines)
    assert any(line.startswith("painted") and "accuracy" in line for line in lines)
    monkeypatch.setattr(table, "RECIPES", {"painted": Painted()})
    assert train(tmp_path, "all", "--quick").exit_code == 0


def test_all_takes_only_what_suits_every_recipe(tmp_path: Path) -> None:
    for wrong in (["--publish", "x"], ["--data", "x"], ["--set", "blocks=1"]):
        told = train(tmp_path, "all", *wrong)
        assert isinstance(told.exception, InvalidInput)


def test_wrong_recipe_setting_and_pair_are_named(tmp_path: Path) -> None:
    assert isinstance(train(tmp_path, "lenet").exception, NotFound)
    assert "learning_rte: unknown setting" in str(
        train(tmp_path, "lenet-rgb", "--set", "learning_rte=1").exception
    )
    assert "is not key=value" in str(train(tmp_path, "lenet-rgb", "--set", "epochs").exception)
    assert "mlp-mnist" in train(tmp_path, "--list").output
    assert not (tmp_path / "store").exists()
