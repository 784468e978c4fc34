"""The machine's ceiling: an engine in process, batch after batch, nothing else: `python -m … ENGINE ONNX THREADS`.

Standard library, numpy and the engine.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from time import perf_counter, process_time
from typing import Any

import numpy as np

from tests.bench.lines import answer_lines
from tests.bench.load import WARM_UP_S, WARM_UP_SHARE, sample

Arrays = Mapping[str, np.ndarray[Any, Any]]
Run = Callable[[Arrays], object]


def onnxruntime(path: str, threads: int) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda arrays: session.run(None, dict(arrays))


def openvino(path: str, threads: int) -> Run:
    import openvino as ov

    # Unless told otherwise it computes in bfloat16 where the processor can.
    how = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    model = ov.Core().compile_model(path, "CPU", how)
    request = model.create_infer_request()
    return lambda arrays: request.infer(dict(arrays), share_inputs=True)


def measure(run: Run, question: dict[str, Any]) -> dict[str, float]:
    """Rows a second in batches of `batch` for `seconds`; `floats`: shapes of one row, `numbers`: one a row."""
    batch, seconds = question["batch"], question["seconds"]
    noise = np.random.default_rng(0)
    shapes = {name: (batch, *shape) for name, shape in question["floats"].items()}
    arrays: dict[str, np.ndarray[Any, Any]] = {
        name: noise.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()
    }
    arrays |= {name: np.full(batch, value, np.int64) for name, value in question["numbers"].items()}
    _repeat(run, arrays, min(WARM_UP_S, WARM_UP_SHARE * seconds))
    used = process_time()
    latencies = _repeat(run, arrays, seconds)
    return asdict(sample(latencies, batch * len(latencies), sum(latencies), process_time() - used))


def _repeat(run: Run, arrays: Arrays, seconds: float) -> list[float]:
    latencies: list[float] = []
    now = perf_counter()
    end = now + seconds
    while now < end:
        run(arrays)
        began, now = now, perf_counter()
        latencies.append(now - began)
    return latencies


def main() -> None:
    engine, path, threads = sys.argv[1:]
    run = {"onnxruntime": onnxruntime, "openvino": openvino}[engine](path, int(threads))
    answer_lines(lambda question: measure(run, question))


if __name__ == "__main__":
    main()
