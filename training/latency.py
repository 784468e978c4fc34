"""How long one call takes here and now: the version's own runner, one thread, one row. Knows no service."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TypeVar

import torch

from services.generation.models import registry as language_models
from services.generation.models.causal_lm import CausalLM
from services.runtime.runners.open import RunnerSettings, open_runner
from services.runtime.runners.samples import synthesise
from services.runtime.store.manifest import Manifest
from training.sampling import GrowingAttention

T = TypeVar("T")

WARM_UPS, REPEATS, LEAST_REPEATS = 3, 30, 5
MOST_SECONDS = 10.0  # after this, LEAST_REPEATS have to do
PROMPT_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Latency:
    """Median milliseconds of what was timed, over `runs` calls; nothing with a `note` that says why."""

    median_ms: Mapping[str, float] = field(default_factory=dict)
    runs: int = 0
    note: str = ""


def measure(manifest: Manifest, directory: Path) -> Latency:
    """One row through the version's own runner, without queue, network and preprocessing.

    Language models: the net in fp32 reads PROMPT_TOKENS tokens, then makes one step with their keys and values
    kept; the engine's own kernels are out of reach here. A version that runs nothing gives an empty Latency.
    """
    if manifest.runner == "none":
        return Latency(note="a tokenizer alone: no net is run")
    with one_thread():
        return _language(manifest, directory) if manifest.runner == "engine" else _runner(manifest, directory)


def _runner(manifest: Manifest, directory: Path) -> Latency:
    area = manifest.tasks[0].split(".")[0]
    registry = import_module(f"services.{area}.models.registry")
    # Nets that take more than noise (ids, masks, lengths) say themselves what they can be given.
    sample = getattr(registry, "samples", synthesise)(manifest, (1,))[0]
    runner = open_runner(manifest, directory, registry.load, RunnerSettings(threads=1))
    try:
        taken = timed(lambda: runner.run(sample))
    finally:
        runner.close()
    return Latency({"call": statistics.median(taken)}, len(taken), "one row of noise")


def _language(manifest: Manifest, directory: Path) -> Latency:
    net = language_models.load(manifest, directory)
    length = min(PROMPT_TOKENS, net.config.max_position_embeddings - 1)
    prefills, steps = [], []
    for prefill, step in _repeated(partial(_prefill_and_step, net, length)):
        prefills.append(prefill)
        steps.append(step)
    median = {f"prefill of {length} tokens": statistics.median(prefills), "decode step": statistics.median(steps)}
    return Latency(median, len(steps), "fp32 in torch, one sequence: not the engine's int8")


@torch.inference_mode()
def _prefill_and_step(net: CausalLM, length: int) -> tuple[float, float]:
    """Milliseconds of both."""
    tokens, attend = torch.arange(length + 1) % net.config.vocab_size, GrowingAttention(1)
    places = torch.arange(length + 1)

    def forward(part: slice) -> None:
        net.logits(net.hidden(tokens[part], places[part], attend)[-1:])

    return clocked(lambda: forward(slice(0, length))), clocked(lambda: forward(slice(length, length + 1)))


def timed(call: Callable[[], object]) -> list[float]:
    """Milliseconds of each of REPEATS calls, after WARM_UPS that do not count."""
    return list(_repeated(lambda: clocked(call)))


def _repeated(measure: Callable[[], T]) -> Iterator[T]:
    for _ in range(WARM_UPS):
        measure()
    began = time.monotonic()
    for done in range(REPEATS):
        if done >= LEAST_REPEATS and time.monotonic() - began > MOST_SECONDS:
            return
        yield measure()


def clocked(call: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes on one thread within, on as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
