"""Images a second over gRPC, from a JPEG and from ready tensors, against the bare net on ready tensors."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path

import skimage
from grpc import aio
from PIL import Image

from cli.program import Program
from maas.vision.v1 import vision_pb2, vision_service_pb2, vision_service_pb2_grpc
from services.runtime.channels import open_channel
from services.runtime.pictures.preprocess import ImagePreprocessing
from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore
from services.runtime.tensors import from_numpy
from services.vision.settings import VisionSettings
from tests.bench import bare_net
from tests.bench.load import Sample, interleave, measure, median, ratio, spread
from tests.bench.options import Options
from tests.bench.servers import running, suite
from tests.bench.table import Table
from tests.bench.worker import Worker, worker

MODEL, CLASS = "efficientnet-lite0", 657
JPEG = Path(skimage.__file__).parent / "data" / "rocket.jpg"
SIZES = (1, 8, 32)
TORCH, ONNX = "floor: bare torch, tensor", "floor: bare onnxruntime, tensor"
FLOORS = {TORCH: "torch", ONNX: "onnxruntime"}
COLUMNS = ("in flight", "path", "images/s", "p50 ms", "p99 ms", "x torch", "x onnxruntime", "spread")

Point = Callable[[int], Awaitable[Sample]]


async def run(options: Options) -> list[Table]:
    """One table: in flight (batch, for the floors) x way."""
    program = suite(options.store, extra=options.environment)["vision"]
    threads = options.threads or VisionSettings().threads
    manifest = ModelStore(options.store).resolve(MODEL)
    async with AsyncExitStack() as stack:
        ways: dict[str, Point] = {}
        for name, runner in FLOORS.items():
            floor = await stack.enter_async_context(_floor(options, program, runner, threads))
            ways[name] = partial(_bare, floor, options.seconds)
        servers = await stack.enter_async_context(running([program], options.logs))
        channel = await stack.enter_async_context(open_channel(servers["vision"].address, retry=False))
        for name, image in _images(manifest).items():
            ways[f"service, {name}"] = await _served(channel, image, options.seconds)
        points = {(size, name): partial(way, size) for size in SIZES for name, way in ways.items()}
        found = await interleave(points, options.repeat, options.tell)
    return [
        _table(
            found, f"vision: {MODEL} served by {manifest.runner} {manifest.precision}, compute threads: {threads}"
        )
    ]


def _images(manifest: Manifest) -> Mapping[str, vision_pb2.Image]:
    """One photograph as it is stored, and as the net wants it: float32 [3, 224, 224]."""
    with Image.open(JPEG) as photograph:
        pixels = ImagePreprocessing.of(manifest).apply(photograph.convert("RGB"))
    return {
        "JPEG": vision_pb2.Image(encoded=JPEG.read_bytes()),
        "tensor": vision_pb2.Image(pixels=from_numpy(pixels)),
    }


async def _served(channel: aio.Channel, image: vision_pb2.Image, seconds: float) -> Point:
    """A way through the service, one image a call. RuntimeError unless it knows the picture."""
    stub = vision_service_pb2_grpc.VisionServiceStub(channel)
    request = vision_service_pb2.ClassifyRequest(model=MODEL, images=[image])
    reply = await stub.Classify(request)
    if reply.results[0].labels[0].index != CLASS:
        raise RuntimeError(f"{JPEG.name} was taken for {reply.results[0].labels[0].name}")
    rpc = channel.unary_unary("/maas.vision.v1.VisionService/Classify")
    body = request.SerializeToString()

    async def call() -> None:
        await rpc(body)

    return lambda in_flight: measure(call, in_flight, seconds)


def _floor(options: Options, program: Program, runner: str, threads: int) -> AbstractAsyncContextManager[Worker]:
    arguments = (runner, str(options.store), MODEL, str(threads))
    log = options.logs / f"bare_{runner}.log"
    return worker(bare_net.__name__, *arguments, environment=program.environment, log=log)


async def _bare(floor: Worker, seconds: float, batch: int) -> Sample:
    return Sample(**await floor.ask(batch=batch, seconds=seconds))


def _table(found: Mapping[tuple[int, str], list[Sample]], title: str) -> Table:
    table = Table(title, COLUMNS)
    for (size, name), samples in found.items():
        middle = median(samples)
        ratios = [ratio(samples, found[size, floor]) for floor in FLOORS]
        figures = (middle.rate, middle.p50_ms, middle.p99_ms, *ratios)
        table.add(samples, size, name, *figures, f"{spread(samples):.0%}")
        if name == "service, tensor":
            table.rule()
    return table
