"""The language recipes on a small text: learnt, published, and served as they were when trained."""

from pathlib import Path

import pytest
import torch

from services.generation.adapters import AdapterConfig
from services.generation.engine.adapter import Adapter
from services.generation.models import low_rank, registry
from services.runtime.errors import InvalidInput, ModelNotFound
from services.runtime.store.publish import Draft
from services.runtime.store.sources.fetcher import Fetcher
from services.runtime.store.store import ModelStore
from services.runtime.text import tokenizer
from tests.engine.tiny import make_engine, run, sequence
from training.lora import merged_state
from training.plan import plan_of
from training.publish import publish
from training.recipes.gpt2_finetune import GPT2Finetune, GPT2FinetunePlan
from training.recipes.transformer_lm import TransformerLm, TransformerLmPlan
from training.run import Finished
from training.run import run as train

SHEEP = "\n\n".join(f"In the year {n} the shepherd of the valley counted {n % 7} sheep." for n in range(60))
GOATS = "\n\n".join(f"In the year {n} the shepherd of the mountain sold {n % 5} goats." for n in range(60))
TINY = {"preset": "small", "vocab_size": 300, "context": 32, "threads": 1, "max_length": 24, "epochs": 12}
PROMPT = "In the year 7 the shepherd"


def never(draft: Draft) -> None:
    raise AssertionError("the engine serves language models: there is no runner to choose")


def store_result(store: ModelStore, name: str, done: Finished, plan: GPT2FinetunePlan | TransformerLmPlan) -> None:
    made = publish(store, name, done.trained, done.model, done.report, plan, never)
    store.verify(made)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelStore, Finished]:
    """`transformer-lm` on a small text, and the store that has it as `sheep`."""
    home = tmp_path_factory.mktemp("language")
    (home / "sheep.txt").write_text(SHEEP)
    chosen = {**TINY, "data": str(home / "sheep.txt"), "prompt": PROMPT, "temperature": 0}
    plan = plan_of(TransformerLmPlan, chosen)
    done = train(TransformerLm(), plan, Fetcher(home / "cache"), home / "run")
    store = ModelStore(home / "store")
    store_result(store, "sheep", done, plan)
    return store, done


def test_the_loss_falls_below_what_frequencies_alone_reach(pretrained: tuple[ModelStore, Finished]) -> None:
    report = pretrained[1].report
    assert report.metrics["loss"] < 0.5 * report.baseline["loss"] == 0.5 * report.details["unigram_entropy"]
    assert report.metrics["accuracy"] > 2 * report.baseline["accuracy"]


def test_the_published_version_is_the_trained_net(pretrained: tuple[ModelStore, Finished]) -> None:
    store, done = pretrained
    manifest = store.resolve("sheep")
    directory = store.directory(manifest)
    served, words = registry.load(manifest, directory), tokenizer.load(manifest, directory)
    ids = words.encode_ids(SHEEP)[:48]
    with torch.no_grad():
        torch.testing.assert_close(served(torch.tensor([ids])), done.model(torch.tensor([ids])), atol=1e-5, rtol=0)
    assert manifest.runner == "engine" and manifest.serves("generation") and manifest.serves("tokenization")
    assert store.card(manifest)["metrics"]["loss"] == pytest.approx(done.report.metrics["loss"])
    # The samples printed at the end of training (greedy here) are the text that the engine gives.
    sample = done.report.details["samples"][0]
    prompt = words.encode_ids(PROMPT)
    grown = run(make_engine(served), [sequence(prompt, max_tokens=24 - len(prompt))])[0].tokens
    kept = grown[: grown.index(0)] if 0 in grown else grown
    assert PROMPT + words.decode(kept) == sample and "sheep" in sample


@pytest.mark.parametrize("method", ["lora", "full"])
def test_finetuning_learns_the_new_text(
    pretrained: tuple[ModelStore, Finished], tmp_path: Path, method: str
) -> None:
    store = pretrained[0]
    (tmp_path / "goats.txt").write_text(GOATS)
    chosen = {"store": str(store.root), "base": "sheep", "method": method, "data": str(tmp_path / "goats.txt")}
    plan = plan_of(GPT2FinetunePlan, {**chosen, "steps": 40, "context": 32, "threads": 1, "learning_rate": 3e-3})
    done = train(GPT2Finetune(), plan, Fetcher(tmp_path / "cache"), tmp_path / "run")
    assert done.steps == 40 and len(done.report.details["samples"]) == 3
    assert done.report.metrics["loss"] < 0.7 * done.report.baseline["loss"]
    store_result(store, f"goats-{method}", done, plan)
    manifest = store.resolve(f"goats-{method}")
    assert "sheep/1 sha256:" in manifest.provenance.notes
    tokens = torch.arange(40).view(2, 20)
    with torch.no_grad():
        served = registry.load(manifest, store.directory(manifest))(tokens)
        torch.testing.assert_close(served, done.model(tokens), atol=1e-4, rtol=1e-4)


def test_an_adapter_published_alone_says_what_the_merged_model_says(
    pretrained: tuple[ModelStore, Finished], tmp_path: Path
) -> None:
    store = pretrained[0]
    (tmp_path / "goats.txt").write_text(GOATS)
    chosen = {"store": str(store.root), "base": "sheep", "form": "adapter", "data": str(tmp_path / "goats.txt")}
    plan = plan_of(GPT2FinetunePlan, {**chosen, "steps": 40, "context": 32, "threads": 1, "learning_rate": 3e-3})
    done = train(GPT2Finetune(), plan, Fetcher(tmp_path / "cache"), tmp_path / "run")
    store_result(store, "goats", done, plan)
    base, manifest = store.resolve("sheep"), store.resolve("goats")
    config = AdapterConfig.model_validate(manifest.config)
    assert manifest.tasks == ("generation.adapter",) and (config.base, config.r) == ("sheep", 8)
    assert config.base_weights == base.files["model.safetensors"]
    assert "merged" not in manifest.provenance.notes
    net, merged = registry.load(base, store.directory(base)), registry.build(base.architecture, base.config)
    merged.eval().load_state_dict(merged_state(done.model))
    engine, path = make_engine(net), store.directory(manifest) / low_rank.FILE
    renames = registry.renames(base.architecture)
    read = engine.runner.adapted(lambda it: low_rank.load(path, it, renames, config.scale))
    prompt = tokenizer.load(base, store.directory(base)).encode_ids(PROMPT)
    alone, tuned = (sequence(prompt, adapter=one, max_tokens=20) for one in (None, Adapter("goats", read)))
    before, after = (result.tokens for result in run(engine, [alone, tuned]))
    assert after == run(make_engine(merged), [sequence(prompt, max_tokens=20)])[0].tokens != before


def test_what_cannot_be_finetuned_is_said_before_anything_is_done(tmp_path: Path) -> None:
    recipe, fetcher = GPT2Finetune(), Fetcher(tmp_path / "cache")
    absent = plan_of(GPT2FinetunePlan, {"data": "x.txt", "store": str(tmp_path / "none"), "base": "gpt9"})
    with pytest.raises(ModelNotFound, match="gpt9"):
        recipe.begin(absent, fetcher)
    whole = plan_of(GPT2FinetunePlan, {"form": "adapter", "method": "full", "store": str(tmp_path / "none")})
    with pytest.raises(InvalidInput, match="form: adapter is for method=lora"):
        recipe.begin(whole, fetcher)


def test_the_presets_are_plans_of_their_own() -> None:
    full, small = plan_of(TransformerLmPlan, {}), plan_of(TransformerLmPlan, {"preset": "small"})
    assert (full.vocab_size, small.vocab_size) == (10_000, 4_000)
    assert plan_of(TransformerLmPlan, {"preset": "small", "vocab_size": "500"}).vocab_size == 500
    with pytest.raises(InvalidInput, match="preset"):
        plan_of(TransformerLmPlan, {"preset": "huge"})


def test_a_text_that_is_not_there_is_named(pretrained: tuple[ModelStore, Finished], tmp_path: Path) -> None:
    chosen = {"store": str(pretrained[0].root), "base": "sheep", "data": str(tmp_path / "none.txt")}
    with pytest.raises(InvalidInput, match=r"data: none\.txt cannot be read"):
        GPT2Finetune().begin(plan_of(GPT2FinetunePlan, chosen), Fetcher(tmp_path / "cache"))
