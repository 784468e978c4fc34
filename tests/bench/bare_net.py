"""The floors for vision: the service's own net in eager torch, or its export in ONNX Runtime, and nothing else."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from services.runtime.runners.base import ONNX_FILES
from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore
from tests.bench.lines import answer_lines
from tests.bench.load import WARM_UP_S, WARM_UP_SHARE, sample

Pixels = np.ndarray[Any, np.dtype[np.float32]]
Net = Callable[[Pixels], object]


def torch_net(manifest: Manifest, directory: Path, threads: int) -> Net:
    import torch

    from services.vision.models import registry

    torch.set_num_threads(threads)
    module = registry.load(manifest, directory)

    def forward(images: Pixels) -> object:
        with torch.inference_mode():
            return module(torch.from_numpy(images))

    return forward


def onnx_net(manifest: Manifest, directory: Path, threads: int) -> Net:
    """A session with the library's defaults, but for the number of threads, in the precision that is served."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        directory / ONNX_FILES[manifest.precision], options, providers=["CPUExecutionProvider"]
    )
    name = manifest.inputs[0].name
    return lambda images: session.run(None, {name: images})


def measure(net: Net, question: dict[str, Any]) -> dict[str, float]:
    """Images a second in batches of `batch` for `seconds`, as the fields of a Sample."""
    batch, seconds = question["batch"], question["seconds"]
    images = np.random.default_rng(0).standard_normal((batch, 3, 224, 224), dtype=np.float32)
    _run(net, images, min(WARM_UP_S, WARM_UP_SHARE * seconds))
    latencies = _run(net, images, seconds)
    return asdict(sample(latencies, batch * len(latencies), sum(latencies)))


def _run(net: Net, images: Pixels, seconds: float) -> list[float]:
    latencies: list[float] = []
    now = perf_counter()
    end = now + seconds
    while now < end:
        net(images)
        began, now = now, perf_counter()
        latencies.append(now - began)
    return latencies


def main() -> None:
    runner, root, model, threads = sys.argv[1:]
    store = ModelStore(Path(root))
    manifest = store.resolve(model)
    build = {"torch": torch_net, "onnxruntime": onnx_net}[runner]
    net = build(manifest, store.directory(manifest), int(threads))
    answer_lines(lambda question: measure(net, question))


if __name__ == "__main__":
    main()
