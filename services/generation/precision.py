"""Which runner computes a version: eight-bit kernels where they can be had and cost little, else torch."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from services.generation import eight_bits, figures
from services.generation.engine import device
from services.generation.engine.graphs import OnCuda
from services.generation.engine.kv_cache import KVCache, blocks_in
from services.generation.engine.runner import ModelRunner, Runner
from services.generation.kernels.native import BLOCK
from services.generation.models import registry
from services.generation.models.config import ModelConfig
from services.generation.settings import GenerationSettings
from services.runtime.compiled import NoCompiler
from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore

log = logging.getLogger("maas.models")

MOST_COST = 0.01  # nats a token, as of one per cent of perplexity: what `auto` gives for speed


@dataclass(frozen=True, slots=True)
class Prepared:
    """A runner, the manifest as it answers, and how many KV blocks of how many tokens there are.

    threads: torch's. Beside the kernels' own, which are pinned, a second one of torch's makes it 50 times slower.
    """

    runner: Runner
    manifest: Manifest
    config: ModelConfig
    blocks: int
    block_size: int
    threads: int


def prepare(manifest: Manifest, directory: Path, settings: GenerationSettings) -> Prepared:
    """Reads the weights, or what was packed of them. PreconditionFailed if int8 is demanded and cannot be, or
    if the device has not the memory; RuntimeError if there is no such device."""
    torch.set_num_threads(settings.threads)  # those that wait for others' cores cost minutes
    found = device.reached(settings.device)
    if found.type == "cpu" and settings.precision in ("auto", "int8"):
        try:
            return _int8(manifest, directory, settings)
        except (NoCompiler, PreconditionFailed, OSError) as error:
            if settings.precision == "int8":
                raise PreconditionFailed(f"int8 cannot be had: {error}") from error
            log.warning("computing in fp32: %s", error, extra={"model": manifest.name})
    try:
        return _floats(manifest, directory, settings, found)
    except torch.OutOfMemoryError as error:
        raise PreconditionFailed(
            f"{found} has no room for the weights and MAAS_KV_CACHE_MIB={settings.kv_cache_mib}; lower it, "
            "or load fewer models"
        ) from error


def _floats(manifest: Manifest, directory: Path, settings: GenerationSettings, place: torch.device) -> Prepared:
    """By torch, in one number format throughout. Its bits are the CPU's or CUDA's, so the digest is."""
    name = device.natural(place) if settings.precision == "auto" else settings.precision
    dtype, size = device.DTYPES[name], settings.kv_block_tokens
    net = registry.load(manifest, directory).to(place, dtype)
    blocks = blocks_in(settings.kv_cache_mib << 20, net.config, size, dtype)
    record = OnCuda(place) if place.type == "cuda" and settings.cuda_graphs else None
    runner = ModelRunner(net, KVCache(net.config, blocks, size, dtype, place), record)
    served = {"precision": name, "packed": "" if place.type == "cpu" else place.type}
    return Prepared(runner, manifest.model_copy(update=served), net.config, blocks, size, settings.threads)


def _int8(manifest: Manifest, directory: Path, settings: GenerationSettings) -> Prepared:
    """PreconditionFailed too if eight bits cost more than MOST_COST, unless they are demanded."""
    store, config = ModelStore(settings.store), registry.describe(manifest)
    _refuse_costly(figures.of(manifest, store), settings)
    means = eight_bits.Means(store, settings.kernels.expanduser(), settings.threads)
    blocks = eight_bits.blocks_in(settings.kv_cache_mib << 20, config)
    runner = eight_bits.open_runner(manifest, means, blocks)
    try:
        found = figures.measured(manifest, directory, store, runner, (blocks - 1) * BLOCK)
        _refuse_costly(found, settings)
    except BaseException:
        runner.close()
        raise
    served = manifest.model_copy(update={"precision": "int8", "packed": runner.digest})
    return Prepared(runner, served, config, blocks, BLOCK, 1)


def _refuse_costly(found: Mapping[str, Any], settings: GenerationSettings) -> None:
    cost = found[figures.INT8]["divergence"] if found else 0.0
    if settings.precision == "auto" and not cost <= MOST_COST:
        told = f"eight bits cost {cost:.2%} of perplexity on {found['data']}, {MOST_COST:.0%} is the most"
        raise PreconditionFailed(told)
