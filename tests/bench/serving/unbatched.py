"""A server without batcher: `python -m … PORT THREADS STORE MODEL`. Rows go to the version's own runner."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvloop
from grpc import aio

from maas.oip.v1 import grpc_service_pb2 as pb
from services.runtime.runners.base import Runner
from services.runtime.runners.open import RunnerSettings, open_runner
from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore
from tests.bench.peers.serving.bare import serve
from tests.bench.peers.serving.oip import answer, arrays_of


def module(manifest: Manifest, directory: Path) -> object:
    """The net in torch, for versions that torch runs."""
    if manifest.tasks[0].startswith("vision"):
        from services.vision.models import registry as vision

        return vision.load(manifest, directory)
    from services.sequence.models import registry as sequence

    return sequence.load(manifest, directory)


def infer(runner: Runner, output: str, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    arrays = arrays_of(request)
    return answer(request, output, runner.run(arrays)[output])


async def unbatched(port: int, runner: Runner, output: str) -> None:
    """Until killed; one thread computes."""
    pool = ThreadPoolExecutor(1)

    async def handle(request: pb.ModelInferRequest, context: aio.ServicerContext) -> pb.ModelInferResponse:
        return await asyncio.get_running_loop().run_in_executor(pool, infer, runner, output, request)

    await serve(port, handle)


def main() -> None:
    port, threads, root, model = sys.argv[1:]
    store = ModelStore(Path(root))
    manifest = store.resolve(model)
    runner = open_runner(manifest, store.directory(manifest), module, RunnerSettings(threads=int(threads)))
    uvloop.run(unbatched(int(port), runner, manifest.outputs[0].name))


if __name__ == "__main__":
    main()
