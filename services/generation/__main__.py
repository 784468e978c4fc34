"""`python -m services.generation`: settings → models → service → serve."""

from collections.abc import Collection
from pathlib import Path

from maas.generation.v1.generation_service_pb2_grpc import add_GenerationServiceServicer_to_server
from services.generation import model
from services.generation.adapters import ADAPTER_TASK, Hosted, StoredAdapter
from services.generation.observe import GenerationMetrics
from services.generation.service import GenerationService
from services.generation.settings import GenerationSettings
from services.runtime.host import ModelHost
from services.runtime.server import Floor, main
from services.runtime.store.manifest import Manifest


def open_host(floor: Floor[GenerationSettings]) -> ModelHost[Hosted]:
    """The generation models of the store, each with an engine of its own, and the adapters beside them."""
    settings = floor.settings

    async def load(manifest: Manifest, directory: Path) -> Hosted:
        if ADAPTER_TASK in manifest.tasks:
            return StoredAdapter.read(manifest, directory)
        return await model.load(manifest, directory, settings, GenerationMetrics(floor.metrics, manifest.name))

    return floor.host("generation", load, settings.defaults, files_at_start)


def files_at_start(manifest: Manifest) -> Collection[str]:
    """What loading reads: of an adapter nothing, before it is asked for."""
    return () if ADAPTER_TASK in manifest.tasks else manifest.files


async def build(floor: Floor[GenerationSettings]) -> None:
    """One host of models, one servicer."""
    floor.add(add_GenerationServiceServicer_to_server, GenerationService(open_host(floor)))


if __name__ == "__main__":
    main(GenerationSettings, build, "generation")
