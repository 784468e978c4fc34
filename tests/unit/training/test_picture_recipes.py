"""From a folder to a stored version: learnt, reported, drawn, published, measured again from the store."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from services.runtime.errors import InvalidInput, NotFound
from services.runtime.store.store import ModelStore
from services.vision.models import registry
from tests.unit.training.painted import paint, picture
from training import journal
from training.evaluation import evaluate
from training.judges.subject import label_indices
from training.plan import plan_of
from training.publish import publish
from training.recipe import Recipe
from training.recipes.cnn_mnist import CnnMnist
from training.recipes.lenet_rgb import LeNetRgb
from training.run import Finished, run


class NoFetch:
    """A folder needs nothing fetched."""

    def fetch(self, source: str, sha256: str) -> Path:
        raise AssertionError(source)


def train(recipe: Recipe, data: Path, home: Path, **settings: Any) -> Finished:
    chosen = {"data": str(data), "size": 16, "epochs": 3, "batch_size": 8, "threads": 1, **settings}
    # text, as the command line gives it
    return run(recipe, plan_of(recipe.plan, {key: str(value) for key, value in chosen.items()}), NoFetch(), home)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return paint(tmp_path / "own")


def test_a_folder_is_learnt_and_the_stored_version_measures_the_same(tmp_path: Path, data: Path) -> None:
    lines = "".join(f"red/{number:03}.png,first\n" for number in range(20))
    (data / "slices.csv").write_text("file,day\n" + lines)
    done = train(LeNetRgb(), data, tmp_path / "home")
    assert done.report.metrics["accuracy"] == 1.0
    assert done.report.baseline["accuracy"] == 0.5
    assert done.report.worst("label", "accuracy")[2] == 0.0
    store = ModelStore(tmp_path / "store")
    plan = plan_of(LeNetRgb.plan, {"data": str(data)})
    made = publish(store, "painted", done.trained, done.model, done.report, plan, lambda draft: None)
    assert made.config["classes"] == 2 and made.provenance.notes.startswith("28 training, 4 validation, 8 test")
    assert made.description == "16x16x3 pictures: 2 classes, 84 features"
    assert store.card(made)["metrics"]["accuracy"] == 1.0
    again = evaluate(made, store.directory(made), str(data), NoFetch())
    assert again.metrics == pytest.approx(done.report.metrics, abs=1e-6)
    assert again.slices["day"]["first"]["count"] == 4
    assert again.details["confusion"] == [[4, 0], [0, 4]], "of what it learnt from, test rows alone"
    assert again.details["small_groups"] == {"label": ["blue", "red"], "day": ["first", "unknown"]}
    picture("red", 9999).save(data / "red" / "new.png")
    assert evaluate(made, store.directory(made), str(data), NoFetch()).details["confusion"] == [[20, 0], [0, 21]]


def test_the_worst_group_and_its_gap_are_found(tmp_path: Path, data: Path) -> None:
    done = train(LeNetRgb(), data, tmp_path / "home")
    store = ModelStore(tmp_path / "store")
    plan = plan_of(LeNetRgb.plan, {})
    made = publish(store, "painted", done.trained, done.model, done.report, plan, lambda draft: None)
    for number in range(5):  # red ink under the name of blue: the model must be wrong on them
        picture("red", 5000 + number).save(data / "blue" / f"night{number}.png")
    lines = "".join(f"blue/night{number}.png,night\n" for number in range(5))
    (data / "slices.csv").write_text("file,light\n" + lines)
    report = evaluate(made, store.directory(made), str(data), NoFetch())
    assert report.worst("light", "accuracy") == ("night", 0.0, 1.0)
    assert report.worst("label", "accuracy") == ("blue", 0.8, pytest.approx(0.2))
    assert report.metrics["accuracy"] == pytest.approx(40 / 45)
    (data / "red").rename(tmp_path / "elsewhere")  # one class alone can be measured, though not learnt
    assert evaluate(made, store.directory(made), str(data), NoFetch()).metrics["accuracy"] == 0.8


@pytest.mark.parametrize("blocks", [1, 2])
def test_both_forms_of_the_cnn_learn_in_grey(tmp_path: Path, data: Path, blocks: int) -> None:
    for path in data.glob("red/*"):  # in grey the two colours differ by brightness only
        Image.open(path).point(lambda value: value // 3).save(path)
    done = train(CnnMnist(), data, tmp_path / "home", blocks=blocks, epochs=8)
    assert done.report.metrics["accuracy"] >= 0.9
    fields = done.trained.fields()
    assert fields["config"]["widths"] == [32, 64][:blocks]
    assert fields["inputs"][0]["shape"] == [-1, 1, 16, 16]
    assert {"tasks", "labels", "preprocessing"} <= fields.keys()


def test_a_run_is_drawn_and_written_down(tmp_path: Path, data: Path) -> None:
    done = train(LeNetRgb(), data, tmp_path / "home", epochs=1)
    assert [path.name for path in done.plots] == ["loss.png", "confusion.png"]
    for path in done.plots:
        with Image.open(path) as image:
            assert image.format == "PNG" and np.asarray(image.convert("L")).std() > 1
    assert json.loads((tmp_path / "home" / "data.json").read_text())["source"] == "folder own"
    assert json.loads((tmp_path / "home" / "report.json").read_text())["details"]["classes"]["red"]["support"] == 4


def test_plots_are_published_outside_the_digest(tmp_path: Path, data: Path) -> None:
    done = train(LeNetRgb(), data, tmp_path / "home", epochs=1)
    store, plan = ModelStore(tmp_path / "store"), plan_of(LeNetRgb.plan, {})
    bare, drawn = (
        publish(store, "n", done.trained, done.model, done.report, plan, lambda draft: None, plots)
        for plots in ([], done.plots)
    )
    folder = store.directory(drawn) / "plots"
    assert sorted(path.name for path in folder.iterdir()) == ["confusion.png", "loss.png"]
    assert drawn.digest == bare.digest and drawn.version == 2
    store.verify(drawn)


def test_other_data_begins_anew_and_the_same_goes_on(tmp_path: Path, data: Path) -> None:
    home = tmp_path / "home"
    train(LeNetRgb(), data, home, epochs=1)
    before = journal.read(home)
    assert train(LeNetRgb(), data, home, epochs=1).steps == len([x for x in before if x["kind"] == "step"])
    assert journal.read(home) == before
    picture("red", 9999).save(data / "red" / "new.png")
    train(LeNetRgb(), data, home, epochs=1)
    assert journal.read(home) != before


def test_size_is_for_folders_and_a_named_set_for_the_rest() -> None:
    for recipe in (CnnMnist(), LeNetRgb()):
        with pytest.raises(InvalidInput, match="size: is for --data"):
            recipe.begin(plan_of(recipe.plan, {"size": 20}), NoFetch())  # type: ignore[arg-type]


def test_classes_meet_labels_by_name_or_number() -> None:
    assert label_indices(["cat", "dog", "1"], ["dog", "1", "0"]) == {"dog": 1, "1": 2, "0": 0}
    assert label_indices(["crane", "crane"], ["crane"]) == {"crane": 0}
    with pytest.raises(InvalidInput, match="no label cow, 7; it has cat, dog"):
        label_indices(["cat", "dog"], ["cat", "cow", "7"])


def test_what_is_neither_a_set_nor_a_folder_is_told(tmp_path: Path, data: Path) -> None:
    done = train(LeNetRgb(), data, tmp_path / "home", epochs=1)
    store = ModelStore(tmp_path / "store")
    made = publish(store, "n", done.trained, done.model, done.report, plan_of(LeNetRgb.plan, {}), lambda d: None)
    with pytest.raises(NotFound, match="available: emoji, fashion, mnist"):
        evaluate(made, store.directory(made), "minst", NoFetch())
    with pytest.raises(InvalidInput, match=r"what can be evaluated does one of vision.classify"):
        evaluate(made.model_copy(update={"tasks": ("sequence.embed",)}), tmp_path, str(data), NoFetch())


@pytest.mark.parametrize(
    ("architecture", "config", "shape"),
    [
        ("conv_net", {}, (1, 28, 28)),
        ("conv_net", {"widths": [32], "hidden": 64}, (1, 28, 28)),
        ("conv_net", {"channels": 3, "size": 33, "classes": 4}, (3, 33, 33)),
        ("lenet", {"classes": 9}, (3, 32, 32)),
        ("lenet", {"channels": 1, "size": 29}, (1, 29, 29)),
    ],
)
def test_nets_give_logits_and_features(
    architecture: str, config: dict[str, Any], shape: tuple[int, int, int]
) -> None:
    torch.set_num_threads(1)
    logits, features = registry.build(architecture, config)(torch.zeros(2, *shape))
    assert logits.shape == (2, config.get("classes", 10))
    assert features.shape == (2, 84 if architecture == "lenet" else 64)


def test_the_default_nets_have_the_articles_sizes() -> None:
    def count(name: str, **config: Any) -> int:
        return sum(weight.numel() for weight in registry.build(name, config).parameters())

    assert count("lenet") == 62_006
    assert count("conv_net") == 320 + 18_496 + 1600 * 64 + 64 + 650
    assert count("conv_net", widths=[32]) == 320 + 5408 * 64 + 64 + 650
