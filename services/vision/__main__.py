"""`python -m services.vision`: settings → models → service → serve."""

from pathlib import Path

from maas.oip.v1 import grpc_service_pb2_grpc
from maas.vision.v1 import vision_service_pb2_grpc
from services.runtime.device import DeviceThread
from services.runtime.floor import Floor
from services.runtime.lanes import Lanes
from services.runtime.oip import OipService
from services.runtime.oip_statistics import Tallies
from services.runtime.queue_metrics import QueueMetrics
from services.runtime.server import main
from services.runtime.store.manifest import Manifest
from services.vision import model
from services.vision.prepare import Preparer
from services.vision.service import VisionService
from services.vision.settings import VisionSettings


async def build(floor: Floor[VisionSettings]) -> None:
    """One decoding pool, as many lanes as computations fit beside each other, one host of models, one servicer."""
    settings = floor.settings
    preparer = Preparer(settings.decode_threads, settings.image_queue_limit, settings.request_pixels)
    lanes = Lanes("vision-lane", settings.runner_settings.lanes)
    means = model.Means(preparer, lanes, DeviceThread("vision-explain"))
    tallies = Tallies()

    async def load(manifest: Manifest, directory: Path) -> model.VisionModel:
        observer = tallies.begin(manifest.name, manifest.version, QueueMetrics(floor.metrics, manifest.name))
        return await model.load(manifest, directory, means, settings, observer)

    async def close() -> None:
        means.close()

    floor.on_close(close)
    host = floor.host("vision", load, settings.defaults)
    oip = OipService(floor.follower(host), floor.readiness, tallies)
    floor.add(grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server, oip)
    floor.add(
        vision_service_pb2_grpc.add_VisionServiceServicer_to_server,
        VisionService(host, settings.stream_window, settings.stream_images),
    )


if __name__ == "__main__":
    main(VisionSettings, build, "vision")
