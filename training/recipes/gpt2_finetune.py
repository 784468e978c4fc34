"""`gpt2-finetune`: a few hundred steps of a pretrained language model on a user's text, whole or by LoRA.

The article serves GPT-2 as it was downloaded and calls the pipeline with a keyword it does not have (`prompt=`).
Here a model of the store goes on learning, GPT-2- and Llama-shaped alike: SmolLM2 by default, or what
`transformer-lm` published (`base=NAME`). `max_length` and `num_return_sequences` mean what they mean there, for
the samples at the end. Without a file it learns the King James Bible. Adapters are merged when the version is
written: it is served like any other. With `form=adapter` they are a version of their own, asked for by name
beside the base.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from services.generation.models import registry
from services.generation.models.causal_lm import CausalLM
from services.runtime.errors import InvalidInput, PreconditionFailed
from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore
from training.adapter import AdapterTraining
from training.checkpoint import seed_everything
from training.data import kjv, text
from training.data.mnist import Fetch
from training.language import LanguagePlan, LanguageTraining, Origin, judged
from training.lora import adapt
from training.plan import Plan


class GPT2FinetunePlan(LanguagePlan):
    """200 steps of 128 tokens; the step size of LoRA is several times that of all weights."""

    store: str = Field(".maas/store", description="root of the store that holds the base")
    base: str = Field("smollm2-135m-instruct", description="the model to go on from")
    version: str = Field("", description="of the base: a number or a label; empty = the newest")
    method: Literal["lora", "full"] = Field("lora", description="thin adapters, or all weights")
    form: Literal["merged", "adapter"] = Field(
        "merged", description="of LoRA when published: a whole model, or the adapter alone, served on its base"
    )
    rank: int = Field(8, ge=1, description="of the adapters")
    alpha: float = Field(16, gt=0, description="their weight is alpha / rank")
    steps: int = Field(200, ge=1, description="optimiser steps of an epoch")
    context: int = 64
    batch_size: int = 2
    epochs: int = 1
    optimizer: str = "adamw"  # type: ignore[assignment]
    learning_rate: float = 2e-4
    schedule: str = "cosine"  # type: ignore[assignment]
    warmup_steps: int = 10
    clip_norm: float = 1.0
    held_out_tokens: int = 4_000
    max_seconds: float = 240
    checkpoint_s: float = 120


class GPT2Finetune:
    """The base is judged on the same test tokens at the end: what was learnt is the difference."""

    name: ClassVar[str] = "gpt2-finetune"
    summary: ClassVar[str] = "a stored language model on texts of yours (--data FILE)"
    plan: ClassVar[type[Plan]] = GPT2FinetunePlan

    def begin(self, plan: GPT2FinetunePlan, fetcher: Fetch) -> LanguageTraining:
        if plan.form == "adapter" and plan.method != "lora":
            raise InvalidInput("form", "adapter is for method=lora; all weights are published whole: form=merged")
        store = ModelStore(Path(plan.store))
        manifest = store.resolve(plan.base, plan.version)
        directory = store.directory(manifest)
        base = loaded(manifest, directory)
        net, origin = own_copy(base, manifest), origin_of(manifest, directory, plan)
        corpus = text.load(Path(plan.data)) if plan.data else kjv.load(fetcher)
        work = partial(AdapterTraining, base=manifest) if plan.form == "adapter" else LanguageTraining
        training = work(net, corpus, origin, plan, plan.steps * plan.batch_size)
        training.before = lambda: judged(base, training.test.ids, plan.context)
        seed_everything(plan.seed)
        if plan.method == "lora":
            adapt(net, plan.rank, plan.alpha)
        return training


def loaded(manifest: Manifest, directory: Path) -> CausalLM:
    """The stored net, its weights mapped from the store. PreconditionFailed if it is no language model."""
    if "generation.generate" not in manifest.tasks:
        raise PreconditionFailed(f"{manifest.name!r} is no language model: it does {', '.join(manifest.tasks)}")
    return registry.load(manifest, directory)


def own_copy(base: CausalLM, manifest: Manifest) -> CausalLM:
    """The same with weights of its own, which may change."""
    net = registry.build(manifest.architecture, manifest.config)
    net.load_state_dict(base.state_dict())
    return net


def origin_of(manifest: Manifest, directory: Path, plan: GPT2FinetunePlan) -> Origin:
    """The base's shape, tokenizer and licence, and a note of where the weights began."""
    spec = manifest.tokenizer
    if spec is None or spec.kind != "huggingface":
        raise PreconditionFailed(f"{manifest.name!r} has no tokenizer.json to go on with")
    merged = ", merged" if plan.form == "merged" else ""
    how: Mapping[str, str] = {"lora": f"LoRA of rank {plan.rank}{merged}", "full": "all weights"}
    notes = f"fine-tuned from {manifest.name}/{manifest.version} {manifest.digest}: {how[plan.method]}"
    data = (directory / spec.file).read_bytes()
    return Origin(manifest.architecture, manifest.config, data, spec, manifest.licence, notes)
