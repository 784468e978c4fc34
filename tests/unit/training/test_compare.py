"""Versions side by side: figures as they are, and a warning wherever they must not be held against each other."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from services.generation.models import registry as language_models
from services.runtime.errors import InvalidInput, ModelNotFound
from services.runtime.store.manifest_file import DamagedModel
from services.runtime.store.store import ModelStore
from tests.unit.training.painted import paint
from training import latency
from training.compare import judged, question_of, side_of, sides_of, timed, told, warnings
from training.judges.subject import Question
from training.plan import plan_of
from training.publish import publish
from training.recipes.lenet_rgb import LeNetRgb
from training.run import run

CLASSIFIER = {"tasks": ["sequence.classify"], "architecture": "lstm_classifier", "runner": "torch"}


def learn(store: ModelStore, name: str, data: Path, home: Path, **settings: Any) -> None:
    """A LeNet of one pass over a painted folder."""
    told = {"data": str(data), "size": "16", "epochs": "1", "threads": "1", **settings}
    plan = plan_of(LeNetRgb.plan, told)
    done = run(LeNetRgb(), plan, None, home / name)  # type: ignore[arg-type]
    publish(store, name, done.trained, done.model, done.report, plan, lambda draft: None)


def store_card(store: ModelStore, name: str, card: dict[str, Any], **fields: Any) -> None:
    """A version whose weights are three numbers."""
    with store.publish(name) as draft:
        save_file({"a": torch.zeros(3)}, draft.directory / "model.safetensors")
        draft.fields.update({**CLASSIFIER, **fields})
        draft.card.update(card)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


def test_two_versions_measured_on_the_same_rows(tmp_path: Path, store: ModelStore) -> None:
    data = paint(tmp_path / "own")
    learn(store, "fast", data, tmp_path / "home")
    learn(store, "fast", data, tmp_path / "home", learning_rate="0.1")
    first, second = sides_of(store, ["fast@1", "fast"])
    assert (first.name, second.name) == ("fast/1", "fast/2") and first.trained
    assert warnings([first, second]) == []
    assert first.parameters == sum(value.numel() for value in LeNetRgb().begin(plan(data), None).net.parameters())
    assert first.worst["label"].metric == "accuracy" and first.worst["label"].small
    fresh = [
        judged(side, store.directory(side.manifest), Question(str(data)), None)  # type: ignore[arg-type]
        for side in (first, second)
    ]
    assert warnings(fresh) == []
    for side, old in zip(fresh, (first, second), strict=True):
        assert side.metrics == pytest.approx(old.metrics, abs=1e-5)
    table = told(timed(first, store.directory(first.manifest)))
    assert table["latency"]["runs"] == latency.REPEATS and table["latency"]["median_ms"]["call"] > 0
    assert table["worst"]["label"]["rows"] == 4 and table["size_bytes"] > 4 * table["parameters"]


def plan(data: Path) -> Any:
    return plan_of(LeNetRgb.plan, {"data": str(data), "size": "16"})


def test_cards_of_different_data_are_said_to_be_no_comparison(tmp_path: Path, store: ModelStore) -> None:
    learn(store, "one", paint(tmp_path / "one"), tmp_path / "home")
    learn(store, "two", paint(tmp_path / "two", 25), tmp_path / "home")
    (warning,) = warnings(sides_of(store, ["one", "two"]))
    assert warning.startswith("the cards' figures come from different data: one/1: ")
    sides = sides_of(store, ["one", "two"])

    def fresh(question: Question) -> list[Any]:
        return [judged(side, store.directory(side.manifest), question, None) for side in sides]  # type: ignore[arg-type]

    (warning,) = warnings(
        fresh(Question(str(tmp_path / "two")))
    )  # of its own folder the second sees test rows alone
    assert warning.startswith("not the same rows: one/1: all rows; two/1: these data were learnt from")
    assert warnings(fresh(question_of(str(tmp_path / "two"), sides))) == []


def test_cards_of_other_rows_units_or_tasks_are_told(store: ModelStore) -> None:
    figures = {"metrics": {"accuracy": 0.9}}
    data = {"source": "pypi:mail", "sha256": "ab"}
    store_card(store, "a", {**figures, "plan": {"rows": 400, "seed": 1}}, provenance=data)
    store_card(store, "b", {**figures, "plan": {"rows": 400, "seed": 2}}, provenance=data)
    store_card(store, "c", {**figures, "plan": {"rows": 800}}, provenance=data)
    store_card(store, "d", {}, tasks=["vision.classify"])
    assert warnings(sides_of(store, ["a", "b"])) == []
    (rows,) = warnings(sides_of(store, ["a", "c"]))
    assert rows == "the cards' figures come from other rows or units: a/1: rows=400; c/1: rows=800"
    tasks, silent = warnings(sides_of(store, ["a", "d"]))
    assert tasks == "no task in common: a/1 does sequence.classify; d/1 does vision.classify"
    assert silent == "no figures in the card of d/1"


def test_losses_of_different_tokenizers_are_told(store: ModelStore) -> None:
    for name in ("x", "y"):
        with store.publish(name) as draft:
            (draft.directory / "tokenizer.json").write_text(name)
            draft.fields.update(
                tasks=["generation.generate"], runner="engine", tokenizer={"file": "tokenizer.json"}
            )
            draft.card.update({"metrics": {"loss": 3.0}})
    (warning,) = warnings(sides_of(store, ["x", "y"]))
    assert "tokenizers differ" in warning and "bits_per_byte" in warning


def test_saved_evaluations_are_told_and_a_number_that_is_none_is_none(store: ModelStore) -> None:
    store_card(
        store, "a", {"metrics": {"mse": float("nan")}, "evaluations": {"sunspots": {"metrics": {"mse": 2.0}}}}
    )
    found = told(side_of(store, "a"))
    assert found["metrics"] == {"mse": None} and found["evaluations"] == {"sunspots": {"mse": 2.0}}
    assert not found["trained_here"] and found["parameters"] == 3


def test_a_language_model_is_timed_by_prefill_and_step(store: ModelStore) -> None:
    config = {"vocab_size": 300, "n_embd": 16, "n_head": 2, "n_layer": 2, "n_positions": 32}
    net = language_models.build("GPT2LMHeadModel", config)
    with store.publish("tiny") as draft:
        save_file({k: v.contiguous() for k, v in net.state_dict().items()}, draft.directory / "model.safetensors")
        draft.fields.update(tasks=["generation.generate"], architecture="GPT2LMHeadModel", config=config)
        draft.fields.update(runner="engine", limits={"max_tokens": 32})
    side = side_of(store, "tiny")
    found = timed(side, store.directory(side.manifest)).latency
    assert list(found.median_ms) == ["prefill of 31 tokens", "decode step"] and all(found.median_ms.values())
    assert question_of("x.txt", [side]).context == 32


def test_all_are_asked_for_what_the_shortest_sighted_learnt_and_for_rows_that_none_of_them_did(
    store: ModelStore,
) -> None:
    for name, context, sha256 in (("x", 64, "aa"), ("y", 128, "bb")):
        learnt = {"source": "file:own.txt", "sha256": sha256}
        store_card(store, name, {"plan": {"context": context}}, provenance=learnt, limits={"max_tokens": 256})
    question = question_of("own.txt", sides_of(store, ["x", "y"]))
    assert (question.context, question.seen) == (64, ("aa", "bb"))


def test_what_runs_no_net_has_no_latency_and_says_why(store: ModelStore) -> None:
    store_card(store, "words", {}, tasks=["tokenization.tokenize"], runner="none")
    side = side_of(store, "words")
    found = timed(side, store.directory(side.manifest)).latency
    assert not found.median_ms and found.note == "a tokenizer alone: no net is run"


def test_names_are_two_or_more_different_versions(store: ModelStore) -> None:
    store_card(store, "a", {})
    store.set_label("a", "stable", 1)
    assert side_of(store, "a@stable").name == "a/1"
    for names in (["a"], ["a", "a@stable"]):
        with pytest.raises(InvalidInput, match="two or more different versions"):
            sides_of(store, names)
    with pytest.raises(ModelNotFound, match="a/7"):
        sides_of(store, ["a", "a@7"])


def test_a_damaged_version_has_no_figures(store: ModelStore) -> None:
    store_card(store, "a", {})
    save_file({"a": torch.ones(3)}, store.directory(store.resolve("a")) / "model.safetensors")
    with pytest.raises(DamagedModel, match="has sha256"):
        side_of(store, "a")
