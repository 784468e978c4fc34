"""`maas train` and `maas evaluate` on a painted folder and a store made on the spot."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.__main__ import app, main
from cli.train_all import package
from services.runtime.errors import InvalidInput, NotFound
from services.runtime.store.store import ModelStore
from tests.unit.training.painted import paint
from training.recipes import table
from training.recipes.cnn_mnist import CnnMnist
from training.recipes.lenet_rgb import LeNetRgb


def maas(tmp_path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--store", str(tmp_path / "store")])


def train(tmp_path: Path, *arguments: str) -> Result:
    return maas(tmp_path, "train", *arguments, "--home", str(tmp_path / "home"), "--set", "threads=1")


@pytest.mark.parametrize("option", ["--home", "--store"])
def test_a_place_that_cannot_be_written_is_one_line(
    tmp_path: Path, option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    series, taken = tmp_path / "own.csv", tmp_path / "taken"
    series.write_text("t,v\n" + "".join(f"{t},{t % 7}\n" for t in range(60)))
    taken.write_text("no folder")
    places = {"--home": str(tmp_path / "home"), "--store": str(tmp_path / "store"), option: str(taken)}
    settings = [
        f"--set={key}={value}" for key, value in {"window": 4, "horizon": 2, "threads": 1, "epochs": 1}.items()
    ]
    command = ["maas", "train", "rnn-forecast", "--data", str(series), *settings, "--publish", "x"]
    monkeypatch.setattr("sys.argv", [*command, *(word for pair in places.items() for word in pair)])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert ended.value.code == 1 and f"FAILED_PRECONDITION {taken}" in told.replace("\n", "")


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
    kept = json.loads((tmp_path / "home" / "training" / "quick" / "all.json").read_text())
    assert [one["recipe"] for one in kept] == ["broken", "painted"] and kept[0]["error"] == "data: is not there"
    assert kept[1]["rows"] == 28 and kept[1]["metric"] == "accuracy" and kept[1]["baseline"] == 0.5
    monkeypatch.setattr(table, "RECIPES", {"painted": Painted()})
    told = train(tmp_path, "all", "--quick", "--json")
    assert told.exit_code == 0 and json.loads(told.stdout)[0]["held_out"] == kept[1]["held_out"]


def test_all_trains_the_cnn_on_both_of_its_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Painted(CnnMnist):
        def begin(self, plan, fetcher):  # type: ignore[no-untyped-def]
            seen.append(plan.dataset)
            return super().begin(plan.model_copy(update={"data": str(tmp_path / "own"), "size": 16}), fetcher)

    paint(tmp_path / "own")
    monkeypatch.setattr(table, "RECIPES", {"cnn-mnist": Painted()})
    told = train(tmp_path, "all", "--quick")
    assert told.exit_code == 0 and seen == ["mnist", "fashion"]
    home = tmp_path / "home" / "training" / "quick"
    assert [one["recipe"] for one in json.loads((home / "all.json").read_text())] == [
        "cnn-mnist",
        "cnn-mnist dataset=fashion",
    ]
    assert (home / "cnn-mnist" / "report.json").is_file() and (
        home / "cnn-mnist-fashion" / "report.json"
    ).is_file()


def test_the_table_names_packages_without_their_versions() -> None:
    sources = "npm:@std/mails@0.2.3:a/", "pypi:spots==0.15.0:x.csv", "deb:text=4.38:usr/lib/a", "folder own"
    assert [package(source) for source in sources] == ["@std/mails", "spots", "text", "folder own"]


def test_ctrl_c_keeps_the_checkpoint_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(LeNetRgb):
        def begin(self, plan, fetcher):  # type: ignore[no-untyped-def]
            trained = super().begin(plan, fetcher)
            monkeypatch.setattr(trained.job.rows.__class__, "take", interrupted(trained.job.rows.__class__.take))
            return trained

    def interrupted(take):  # type: ignore[no-untyped-def]
        def wrapped(rows, indices):  # type: ignore[no-untyped-def]
            batches.append(len(indices))
            if len(batches) == 6:  # in the middle of the second pass of four batches
                raise KeyboardInterrupt
            return take(rows, indices)

        return wrapped

    batches: list[int] = []
    own = "--data", str(paint(tmp_path / "own")), "--set", "size=16", "--set", "epochs=2", "--set", "batch_size=8"
    with monkeypatch.context() as patch:
        patch.setattr(table, "RECIPES", {"lenet-rgb": Stopped()})
        told = train(tmp_path, "lenet-rgb", *own)
    assert told.exit_code == 130
    assert "stopped: the same command goes on from the last checkpoint" in told.stderr
    told = train(tmp_path, "lenet-rgb", *own, "--json")
    assert json.loads(told.stdout)["steps"] == 8 and len(batches) == 10  # four, two of which one failed, four


def test_ctrl_c_before_the_first_checkpoint_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(LeNetRgb):
        def begin(self, plan, fetcher):  # type: ignore[no-untyped-def]
            raise KeyboardInterrupt

    monkeypatch.setattr(table, "RECIPES", {"lenet-rgb": Stopped()})
    told = train(tmp_path, "lenet-rgb", "--publish", "x")
    assert told.exit_code == 130 and "stopped: nothing to keep" in told.stderr
    assert not (tmp_path / "store").exists()


def test_every_setting_of_a_recipe_is_told(tmp_path: Path) -> None:
    told = train(tmp_path, "cnn-mnist", "--list").stdout
    assert "convolution and pool, once or twice" in told and "peak step size of the optimiser" in told
    recipes = json.loads(train(tmp_path, "--list", "--json").stdout)
    assert [one["name"] for one in recipes] == sorted(table.RECIPES)
    for one in recipes:
        assert all(setting["means"] for setting in one["settings"].values()), one["name"]
    assert isinstance(train(tmp_path, "lenet", "--list").exception, NotFound)


def test_all_takes_only_what_suits_every_recipe(tmp_path: Path) -> None:
    for wrong in (["--publish", "x"], ["--data", "x"], ["--set", "blocks=1"], ["--sweep", "seed=1,2"]):
        told = train(tmp_path, "all", *wrong)
        assert isinstance(told.exception, InvalidInput)


def test_wrong_recipe_setting_and_pair_are_named(tmp_path: Path) -> None:
    assert isinstance(train(tmp_path, "lenet").exception, NotFound)
    assert "learning_rte: unknown setting" in str(
        train(tmp_path, "lenet-rgb", "--set", "learning_rte=1").exception
    )
    assert "is not key=value" in str(train(tmp_path, "lenet-rgb", "--set", "epochs").exception)
    assert "mlp-mnist" in train(tmp_path, "--list").output
    assert "'No Name' must match" in str(train(tmp_path, "lenet-rgb", "--publish", "No Name").exception)
    assert not (tmp_path / "home").exists()
    assert not (tmp_path / "store").exists()
