"""From a stored version to a running vLLM behind the backend's interface. Imports vLLM, and only when called."""

import asyncio
import os
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from services.generation.backend import Started
from services.generation.backends.vllm import checkpoint
from services.generation.backends.vllm.backend import VLLMBackend
from services.generation.backends.vllm.lasting import LastingClient
from services.generation.models import registry
from services.generation.settings import GenerationSettings
from services.generation.stream import Observer
from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore

if TYPE_CHECKING:
    from services.generation.backends.vllm.launch import VLLMClient

# Read by the library and its processes: no reports home, no log lines of another form than the service's, no copy
# of a process that has threads.
ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CONFIGURE_LOGGING": "0",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}


async def start(manifest: Manifest, directory: Path, settings: GenerationSettings, observer: Observer) -> Started:
    """Starts the processes on a thread. PreconditionFailed if vLLM is not installed or cannot serve it."""
    if find_spec("vllm") is None:
        raise PreconditionFailed("MAAS_BACKEND=vllm needs vLLM: docs/generation.md says how to install it")
    config = registry.describe(manifest)
    context = min(config.max_position_embeddings, settings.vllm_context or config.max_position_embeddings)
    launch = partial(_launch, manifest, directory, context, settings, observer)
    client = await asyncio.to_thread(launch)
    backend = VLLMBackend(
        LastingClient(client, launch),
        observer,
        context=context,
        vocab_size=config.vocab_size,
        queue_limit=settings.queue_limit + settings.batch_sequences,
    )
    served = manifest.model_copy(update={"runner": "vllm", "precision": client.precision})
    return Started(backend, served, context, config.vocab_size)


def _launch(
    manifest: Manifest, directory: Path, context: int, settings: GenerationSettings, observer: Observer
) -> "VLLMClient":
    folder = checkpoint.prepare(manifest, directory, ModelStore(settings.store))
    os.environ.update(ENVIRONMENT)
    if settings.device == "cpu":
        os.environ.update(VLLM_CPU_OMP_THREADS_BIND="nobind", OMP_NUM_THREADS=str(settings.threads))
    from services.generation.backends.vllm.launch import launch

    return launch(folder, context, settings, observer)
