"""A tiny random language model in a real engine, and a text sink of one character a token."""

from collections.abc import Iterable
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field
from pathlib import Path

import torch

from services.generation.engine.adapter import Adapter
from services.generation.engine.blocks import BlockPool
from services.generation.engine.drafts import Drafter
from services.generation.engine.engine import Engine
from services.generation.engine.kernel_runner import KernelRunner
from services.generation.engine.kv_cache import KVCache
from services.generation.engine.output import Delta
from services.generation.engine.request import Request, SamplingParams, Sequence, Stopping
from services.generation.engine.runner import ModelRunner
from services.generation.engine.scheduler import Limits, Scheduler
from services.generation.engine.stops import StopStrings, TextOutput
from services.generation.kernels import build, packing
from services.generation.kernels.native import Kernels
from services.generation.kernels.packed import PackedModel
from services.generation.models import registry
from services.generation.models.causal_lm import CausalLM
from services.generation.models.plain import PlainLM
from services.runtime.compiled import FOLDER
from tests.needs import needs

VOCAB = 128
CONTEXT = 512
CONFIG = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "head_dim": 32,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
}
GPT2_CONFIG = {"vocab_size": VOCAB, "n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT}


class Characters:
    """Token i is character i."""

    def push(self, token_id: int) -> str:
        return chr(token_id)  # any id below 0x110000 will do

    def flush(self) -> str:
        return ""

    def fork(self) -> "Characters":
        return self  # no state


class Foretold(Drafter):
    """Guesses an output that is given, true or not, as far as it goes."""

    def __init__(self, prompt: int, said: list[int]) -> None:
        super().__init__()
        self._prompt, self._said = prompt, said

    def propose(self, tokens: Tokens[int], share: float, most: int) -> list[int]:
        return self._said[len(tokens) - self._prompt :][: max(most, 0)]


def tiny_model(seed: int = 0, architecture: str = "LlamaForCausalLM") -> CausalLM:
    """Random weights large enough that greedy text wanders instead of repeating one token."""
    torch.manual_seed(seed)
    config = GPT2_CONFIG if architecture == "GPT2LMHeadModel" else CONFIG
    model = registry.build(architecture, config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.2
    return model


@dataclass(frozen=True)
class Int8:
    """A model in eight bits: what `make_engine` takes in place of one."""

    packed: PackedModel
    net: CausalLM
    threads: int = 1
    isa: str = ""

    @classmethod
    def of(cls, model: CausalLM, folder: Path) -> "Int8":
        needs("g++")
        packing.write(PlainLM(model), folder / "packed.safetensors")
        return cls(PackedModel(folder / "packed.safetensors", model.config), model)

    def runner(self, num_blocks: int) -> KernelRunner:
        kernels = Kernels(build.library(FOLDER.expanduser()), self.threads, isa=self.isa)
        return KernelRunner(self.packed, self.net, num_blocks, kernels)


def make_engine(model: CausalLM | Int8, num_blocks: int = 200, block_size: int = 16, **limits: int) -> Engine:
    scheduler = Scheduler(BlockPool(num_blocks, block_size), Limits(**limits))
    if isinstance(model, Int8):
        return Engine(scheduler, model.runner(num_blocks), CONTEXT)
    return Engine(scheduler, ModelRunner(model, KVCache(model.config, num_blocks, block_size)), CONTEXT)


def text_sink(*stop: str, include: bool = False, unchecked: int = 0) -> TextOutput:
    return TextOutput(Characters(), StopStrings(stop, include), unchecked)


def sequence(
    prompt: Iterable[int],
    sampling: SamplingParams = SamplingParams(),
    *,
    index: int = 0,
    seed: int = 0,
    adapter: Adapter | None = None,
    stop: tuple[str, ...] = (),
    logprobs: int | None = None,
    **stopping: object,
) -> Sequence:
    """One sequence of its own request; `stopping` as in Stopping, 20 tokens unless said."""
    rules = Stopping(**{"max_tokens": 20, **stopping})
    request = Request(tuple(prompt), sampling, rules, seed=seed, logprobs=logprobs, adapter=adapter)
    return Sequence(request, index, text_sink(*stop, include=rules.include_stop, unchecked=rules.min_tokens))


@dataclass
class Result:
    """All deltas of one sequence, joined."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0
    deltas: list[Delta] = field(default_factory=list)

    def take(self, delta: Delta) -> None:
        self.text += delta.text
        self.tokens += delta.token_ids
        self.logprob += delta.logprob
        self.deltas.append(delta)


def collect(engine: Engine, sequences: list[Sequence], limit: int = 10_000) -> list[Result]:
    """Step until every sequence has ended, checking the accounts after each step."""
    results = {id(s): Result() for s in sequences}
    for _ in range(limit):
        if not engine.busy:
            break
        for delta in engine.step():
            results[id(delta.sequence)].take(delta)
        engine.scheduler.check_integrity()
    assert not engine.busy, "the engine does not come to an end"
    return [results[id(s)] for s in sequences]


def run(engine: Engine, sequences: list[Sequence]) -> list[Result]:
    """Each sequence as a request of its own, all at once."""
    for one in sequences:
        engine.add([one])
    return collect(engine, sequences)
