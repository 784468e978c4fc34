"""Which runner computes a version: eight-bit kernels where they can be had, else the fp32 reference in torch."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from services.generation.engine.kernel_runner import KernelRunner
from services.generation.engine.kv_cache import KVCache, blocks_in
from services.generation.engine.runner import ModelRunner, Runner
from services.generation.kernels import build, packing
from services.generation.kernels.native import BLOCK, Kernels
from services.generation.kernels.packed import PackedModel, cell_bytes
from services.generation.models import registry
from services.generation.models.causal_lm import CausalLM
from services.generation.models.config import ModelConfig
from services.generation.models.plain import PlainLM
from services.generation.settings import GenerationSettings
from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore

log = logging.getLogger("maas.models")

PACKED = ".packed"  # beside the models: what is made of them, by digest


@dataclass(frozen=True, slots=True)
class Prepared:
    """A runner, the manifest as it answers, and how many KV blocks of how many tokens there are."""

    runner: Runner
    manifest: Manifest
    config: ModelConfig
    blocks: int
    block_size: int


def prepare(manifest: Manifest, directory: Path, settings: GenerationSettings) -> Prepared:
    """Reads the weights, or what was packed of them. PreconditionFailed if int8 is demanded and cannot be."""
    net = registry.load(manifest, directory)
    if settings.precision != "fp32":
        try:
            return _int8(manifest, net, settings)
        except (build.NoCompiler, PreconditionFailed) as error:
            if settings.precision == "int8":
                raise PreconditionFailed(f"int8 cannot be had: {error}") from error
            log.warning("computing in fp32: %s", error, extra={"model": manifest.name})
    return _fp32(manifest, net, settings)


def _fp32(manifest: Manifest, net: CausalLM, settings: GenerationSettings) -> Prepared:
    size = settings.kv_block_tokens
    blocks = blocks_in(settings.kv_cache_mib << 20, net.config, size)
    runner = ModelRunner(net, KVCache(net.config, blocks, size))
    return Prepared(runner, manifest.model_copy(update={"precision": "fp32"}), net.config, blocks, size)


def _int8(manifest: Manifest, net: CausalLM, settings: GenerationSettings) -> Prepared:
    config = net.config
    library = build.library(settings.kernels.expanduser())
    packed = PackedModel(_packed_file(manifest, net, settings), config)
    each = config.num_hidden_layers * config.num_key_value_heads * cell_bytes(config)
    blocks = (settings.kv_cache_mib << 20) // each
    kernels = Kernels(library, settings.threads, _cpus(settings.threads))
    log.info("int8 kernels for %s", kernels.isa, extra={"model": manifest.name})
    runner = KernelRunner(packed, net, blocks, kernels)
    return Prepared(runner, manifest.model_copy(update={"precision": "int8"}), config, blocks, BLOCK)


def _packed_file(manifest: Manifest, net: CausalLM, settings: GenerationSettings) -> Path:
    """The version's packed file, made by the first process that needs it."""
    path = settings.store / PACKED / _packed_name(manifest)
    if not path.is_file():
        if not packing.fits(net.config):
            raise PreconditionFailed(f"the kernels hold no net of the shape of {manifest.name}")
        log.info("packing weights in eight bits", extra={"model": manifest.name})
        packing.write(PlainLM(net), path)
        _drop_orphans(ModelStore(settings.store))
    return path


def _drop_orphans(store: ModelStore) -> None:
    """Packed files of versions that are gone, or of another format. Who has one open keeps it."""
    versions = [(name, number) for name in store.names() for number in store.versions(name)]
    kept = {_packed_name(store.manifest(*version)) for version in versions}
    for path in (store.root / PACKED).glob("*.safetensors"):
        if path.name not in kept:
            path.unlink(missing_ok=True)


def _packed_name(manifest: Manifest) -> str:
    return f"{manifest.digest.removeprefix('sha256:')}-{packing.FORMAT}.safetensors"


def _cpus(threads: int) -> list[int]:
    """A core for each thread if they are to have the whole machine, else nothing: others may be pinned there."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed if threads == len(allowed) else []
