"""`transformer-lm`: a Transformer language model from nothing, with a BPE learnt from the same text.

Sizes are the article's: 10,000 tokens, width 512, 8 heads, 6 layers, 2048 inner, 256 learned positions. Its code
looks positions up by token (`position_embedding(x)`), which fails for ids over 255 and tells no order; here they
are counted. It has no causal mask, so each token could read the one it should predict; here attention is causal.
Its layers read [length, batch] as given [batch, length]; here rows stay apart. The net is the suite's GPT-2: norms
before each part and GELU instead of norms after and ReLU, which trains at this depth without a long warm-up; the
head has weights of its own, as there. No dropout: on two cores no row is seen often enough to be learnt by heart.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from services.generation.models import registry
from training import byte_pairs
from training.checkpoint import seed_everything
from training.data import kjv, text
from training.data.mnist import Fetch
from training.language import LanguagePlan, LanguageTraining, Origin, initialise
from training.plan import Plan

ARCHITECTURE = "GPT2LMHeadModel"
LICENCE = "text in the public domain; data file free to use, copy and modify"
Preset = Literal["full", "small"]
SIZES: dict[Preset, dict[str, int]] = {
    "full": {"n_embd": 512, "n_head": 8, "n_layer": 6, "n_inner": 2048, "n_positions": 256},
    "small": {"n_embd": 128, "n_head": 4, "n_layer": 4, "n_inner": 512, "n_positions": 128},
}
TRAINING: dict[Preset, dict[str, Any]] = {
    "full": {
        "vocab_size": 10_000,
        "context": 64,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "schedule": "constant",
        "precision": "bf16",
        "checkpoint_s": 120,
    },
    "small": {"vocab_size": 4_000, "batch_size": 8, "learning_rate": 3e-3, "held_out_tokens": 60_000},
}


class TransformerLmPlan(LanguagePlan):
    """Four minutes on two cores: a part of one pass for `full`, the whole of one for `small`."""

    preset: Preset = Field("full", description="full = the article's sizes; small = writes plausible lines soon")
    vocab_size: int = Field(10_000, ge=257, description="most tokens of the BPE")
    epochs: int = 1
    schedule: str = "cosine"  # type: ignore[assignment]
    optimizer: str = "adamw"  # type: ignore[assignment]
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    warmup_steps: int = 20
    max_seconds: float = 220
    prompt: str = "And the LORD said unto"

    @model_validator(mode="before")
    @classmethod
    def of_preset(cls, chosen: Any) -> Any:
        """The preset's settings, with the chosen ones over them."""
        return {**TRAINING.get(chosen.get("preset", "full"), {}), **chosen}


class TransformerLm:
    """The whole road of a language model: text to tokenizer to weights to a served version."""

    name: ClassVar[str] = "transformer-lm"
    summary: ClassVar[str] = "Transformer LM 10k/512/8/6 on the King James Bible or --data FILE"
    plan: ClassVar[type[Plan]] = TransformerLmPlan

    def begin(self, plan: TransformerLmPlan, fetcher: Fetch) -> LanguageTraining:
        corpus = text.load(Path(plan.data)) if plan.data else kjv.load(fetcher)
        data = byte_pairs.learn((document.text for document in corpus.train), plan.vocab_size)
        positions = max(SIZES[plan.preset]["n_positions"], plan.context)
        origin = Origin(ARCHITECTURE, {}, data, byte_pairs.spec(positions), "" if plan.data else LICENCE)
        sizes = {**SIZES[plan.preset], "n_positions": positions, "vocab_size": origin.words().vocab_size}
        # The small net shares its embedding with its head: half of its weights would be there otherwise.
        config = {**sizes, "tie_word_embeddings": plan.preset == "small"}
        seed_everything(plan.seed)
        net = registry.build(ARCHITECTURE, config)
        initialise(net)
        return LanguageTraining(net, corpus, replace(origin, config=config), plan)
