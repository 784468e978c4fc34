"""`python -m services.generation`: settings → models → service → serve."""

from pathlib import Path

from maas.generation.v1 import generation_service_pb2_grpc
from services.generation import model
from services.generation.service import GenerationService
from services.generation.settings import GenerationSettings
from services.runtime.server import Floor, main
from services.runtime.store.manifest import Manifest


async def build(floor: Floor[GenerationSettings]) -> None:
    """One host of models, each with an engine of its own, and one servicer."""
    settings = floor.settings

    async def load(manifest: Manifest, directory: Path) -> model.GenerationModel:
        return await model.load(manifest, directory, settings)

    host = floor.host("generation", load, settings.defaults)
    floor.add(generation_service_pb2_grpc.add_GenerationServiceServicer_to_server, GenerationService(host))


if __name__ == "__main__":
    main(GenerationSettings, build, "generation")
