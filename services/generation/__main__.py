"""`python -m services.generation`: settings → models → service → serve."""

from collections.abc import Collection
from functools import partial
from pathlib import Path

from maas.generation.v1.generation_service_pb2_grpc import add_GenerationServiceServicer_to_server
from services.generation import model
from services.generation.adapters import ADAPTER_TASK, Hosted, StoredAdapter
from services.generation.engine import device
from services.generation.observe import GenerationMetrics
from services.generation.resume.recorder import Recorder
from services.generation.resume.store import RecordStore
from services.generation.service import GenerationService
from services.generation.settings import GenerationSettings
from services.runtime.floor import Floor
from services.runtime.host import ModelHost
from services.runtime.redis_link import RedisLink
from services.runtime.sealing import Sealer, keys_of
from services.runtime.server import main
from services.runtime.store.manifest import Manifest


def open_host(floor: Floor[GenerationSettings]) -> ModelHost[Hosted]:
    """The generation models of the store, each with an engine of its own, and the adapters beside them."""
    settings = floor.settings

    async def load(manifest: Manifest, directory: Path) -> Hosted:
        if ADAPTER_TASK in manifest.tasks:
            return StoredAdapter.read(manifest, directory)
        observer = GenerationMetrics(floor.metrics, manifest.name, partial(broke, manifest))
        return await model.load(manifest, directory, settings, observer)

    def broke(manifest: Manifest) -> None:
        host.give_up(manifest, "the engine broke down; it is loaded anew")

    host = floor.host("generation", load, settings.defaults, files_at_start)
    return host


def files_at_start(manifest: Manifest) -> Collection[str]:
    """What loading reads: of an adapter nothing, before it is asked for."""
    return () if ADAPTER_TASK in manifest.tasks else manifest.files


async def build(floor: Floor[GenerationSettings]) -> None:
    """One host of models, one recorder of streams, one servicer. RuntimeError where there is no such device."""
    if floor.settings.backend == "engine":
        device.reached(floor.settings.device)
    host = open_host(floor)
    floor.add(add_GenerationServiceServicer_to_server, GenerationService(host, open_recorder(floor)))


def open_recorder(floor: Floor[GenerationSettings]) -> Recorder | None:
    """Writes streams down as they are told; None where no Redis is named."""
    settings, metrics = floor.settings, floor.metrics
    if not settings.redis_url:
        return None
    link = RedisLink.of(
        settings, metrics.stream_records.labels("fault").inc, metrics.breaker_open.labels("redis").set
    )
    sealer = Sealer(keys_of(settings.cache_key.get_secret_value())) if settings.cache_key else None
    store = RecordStore(link, sealer, settings.stream_ttl_s)
    recorder = Recorder(store, settings.stream_record_kib * 1024, metrics)
    floor.on_start(recorder.start)
    floor.on_close(recorder.close)
    return recorder


if __name__ == "__main__":
    main(GenerationSettings, build, "generation")
