"""A stored version in eight bits: its packed file, made once, and the kernels that run it. Chooses nothing."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from services.generation.engine.kernel_runner import KernelRunner
from services.generation.kernels import build, packing
from services.generation.kernels.native import Kernels
from services.generation.kernels.packed import PackedModel, cell_bytes
from services.generation.models import registry
from services.generation.models.config import ModelConfig
from services.generation.models.plain import PlainLM
from services.runtime.errors import PreconditionFailed
from services.runtime.store.files import hold
from services.runtime.store.manifest import Manifest
from services.runtime.store.publish import LOCKS
from services.runtime.store.store import ModelStore
from services.runtime.text import tokenizer

log = logging.getLogger("maas.models")

MOST_TOKENS = 2048  # of the calibration
PACKED = ".packed"  # beside the models: what is made of them, by digest
CALIBRATION = Path(__file__).with_name("calibration.txt")  # prose, talk, code, data, figures in a few languages


@dataclass(frozen=True, slots=True)
class Means:
    """Where versions lie, where built kernels are kept, and how many threads compute."""

    store: ModelStore
    kernels: Path
    threads: int


def open_runner(manifest: Manifest, means: Means, blocks: int) -> KernelRunner:
    """With KV cells for so many blocks. NoCompiler without kernels; PreconditionFailed for a shape they do not
    hold; OSError where the packed file cannot be written."""
    if not packing.fits(registry.describe(manifest)):
        raise PreconditionFailed(f"the kernels hold no net of the shape of {manifest.name}")
    library = build.library(means.kernels)
    net = registry.load(manifest, means.store.directory(manifest))  # mapped, not read
    packed = PackedModel(packed_file(manifest, means.store), net.config)
    kernels = Kernels(library, means.threads, _cpus(means.threads))
    log.info("int8 kernels for %s", kernels.isa, extra={"model": manifest.name})
    return KernelRunner(packed, net, blocks, kernels)


def blocks_in(budget_bytes: int, config: ModelConfig) -> int:
    """KV blocks that fit the budget."""
    return budget_bytes // (config.num_hidden_layers * config.num_key_value_heads * cell_bytes(config))


def packed_file(manifest: Manifest, store: ModelStore) -> Path:
    """The version's packed file, made by the first process that needs it; only then are its weights read."""
    path = store.root / PACKED / _name(manifest)
    if path.is_file():
        return path
    with hold(store.root / LOCKS / f"{manifest.name}.packing.lock"):
        if not path.is_file():
            log.info("packing weights in eight bits", extra={"model": manifest.name})
            _pack(manifest, store.directory(manifest), path)
            _drop_orphans(store)
    return path


def _pack(manifest: Manifest, directory: Path, path: Path) -> None:
    ids = []
    if manifest.tokenizer is not None:
        ids = tokenizer.load(manifest, directory).encode_ids(CALIBRATION.read_text(), parse_special=False)
    packing.write(PlainLM(registry.load(manifest, directory)), path, ids[:MOST_TOKENS])


def _drop_orphans(store: ModelStore) -> None:
    """Packed files of versions that are gone, or of another format. Who has one open keeps it."""
    kept = {_name(manifest) for manifest in store.manifests()}
    for path in (store.root / PACKED).glob("*.safetensors"):
        if path.name not in kept:
            path.unlink(missing_ok=True)


def _name(manifest: Manifest) -> str:
    return f"{manifest.digest.removeprefix('sha256:')}-{packing.FORMAT}.safetensors"


def _cpus(threads: int) -> list[int]:
    """A core for each thread if they are to have the whole machine, else nothing: others may be pinned there."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed if threads == len(allowed) else []
