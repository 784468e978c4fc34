"""From a stored version to the suite's own engine behind the backend's interface."""

import asyncio
from pathlib import Path

from services.generation.backend import Started
from services.generation.engine.blocks import BlockPool
from services.generation.engine.engine import Engine
from services.generation.engine.scheduler import Limits, Scheduler
from services.generation.precision import Prepared, prepare
from services.generation.settings import GenerationSettings
from services.generation.shelf import Shelf
from services.generation.stream import Observer
from services.generation.worker import EngineWorker
from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest


async def start(manifest: Manifest, directory: Path, settings: GenerationSettings, observer: Observer) -> Started:
    """Reads the weights on a thread. PreconditionFailed if they or the sizes in the settings do not fit."""
    prepared = await asyncio.to_thread(prepare, manifest, directory, settings)
    context = min(prepared.config.max_position_embeddings, (prepared.blocks - 1) * prepared.block_size)
    if context < 2:
        raise PreconditionFailed(f"MAAS_KV_CACHE_MIB={settings.kv_cache_mib} holds no block of {manifest.name}")
    worker = EngineWorker(
        _engine(prepared, context, settings),
        f"engine-{manifest.name}",
        observer,
        threads=prepared.threads,
        queue_limit=settings.queue_limit,
    )
    shelf = Shelf(settings.adapters_max, prepared.runner.adapted)
    return Started(worker, prepared.manifest, context, prepared.config.vocab_size, shelf)


def _engine(prepared: Prepared, context: int, settings: GenerationSettings) -> Engine:
    limits = Limits(
        settings.batch_tokens, settings.batch_sequences, settings.speculation, settings.priority_step_s
    )
    scheduler = Scheduler(BlockPool(prepared.blocks, prepared.block_size), limits)
    return Engine(scheduler, prepared.runner, context)
