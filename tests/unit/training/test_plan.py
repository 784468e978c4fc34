"""Settings of every recipe: what is out of range is refused by name, whichever class gives the default."""

from pathlib import Path

import pytest

from services.runtime.errors import InvalidInput
from training.comparable import DECISIVE, decisive
from training.plan import plan_of
from training.recipes.table import RECIPES
from training.run import run

WRONG = {
    "seed": ("-1", "4294967296", "x"),
    "epochs": ("0", "1.5"),
    "batch_size": ("0", "many"),
    "learning_rate": ("0", "-1", "nan", "inf"),
    "optimizer": ("lion",),
    "momentum": ("1", "-0.1"),
    "weight_decay": ("-1",),
    "clip_norm": ("-1", "inf"),
    "schedule": ("step",),
    "warmup_steps": ("-1",),
    "patience": ("-1",),
    "max_seconds": ("-1", "nan"),
    "precision": ("fp8",),
    "checkpoint_s": ("0",),
    "device": ("gpu", "cuda:x"),
    "threads": ("-1", "100000"),
    "dp_noise": ("-1", "nan"),
    "dp_epsilon": ("-1", "inf"),
    "dp_delta": ("0", "1"),
    "dp_clip": ("0",),
    "season": ("-1",),
    "blocks": ("0", "3"),
    "size": ("-1", "15", "257"),
    "dataset": ("cifar",),
    "window": ("0", "1001"),
    "horizon": ("0",),
    "hidden_size": ("0",),
    "rows": ("1",),
    "max_tokens": ("7", "513"),
    "context": ("1",),
    "held_out_tokens": ("1",),
    "max_length": ("0",),
    "num_return_sequences": ("-1",),
    "temperature": ("-0.1", "nan"),
    "preset": ("huge",),
    "vocab_size": ("256",),
    "method": ("prefix",),
    "rank": ("0",),
    "alpha": ("0",),
    "steps": ("0",),
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_refuses_what_is_out_of_range_and_names_it(name: str) -> None:
    plan = RECIPES[name].plan
    assert plan_of(plan, {}) == plan()
    for key in WRONG.keys() & plan.model_fields.keys():
        for value in WRONG[key]:
            with pytest.raises(InvalidInput, match=f"^{key}: .*: "):
                plan_of(plan, {key: value})


def test_an_unknown_setting_is_told_with_those_that_exist() -> None:
    with pytest.raises(InvalidInput, match="learning_rte: unknown setting; known: seed, epochs"):
        plan_of(RECIPES["mlp-mnist"].plan, {"learning_rte": "1"})


def test_a_device_that_is_not_there_is_told_before_anything_is_read(tmp_path: Path) -> None:
    recipe = RECIPES["rnn-forecast"]
    with pytest.raises(InvalidInput, match="device: 'cuda:99': this machine has"):
        run(recipe, plan_of(recipe.plan, {"device": "cuda:99"}), None, tmp_path / "run")  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_what_decides_a_score_is_a_setting_of_some_recipe() -> None:
    assert set().union(*(recipe.plan.model_fields for recipe in RECIPES.values())) >= DECISIVE
    assert decisive({"data": "x", "learning_rate": 1}) == {"data": "x"}
