"""NVIDIA Triton, the binary in pytriton's wheel. Writes its model repository, then becomes the server.

Every model is there three times: NAME is tuned to so few cores (one-thread instances, no delay), NAME-defaults is
one instance of Triton's and ONNX Runtime's own defaults, NAME-cached is the tuned one behind the response cache.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from tests.bench.peers.serving.spec import MOST_ROWS, Model, Spec, Tensor, told

CACHE_BYTES = 1 << 28
STUB = "triton_python_backend_stub"
CONFIGURATION = """\
name: "{name}"
backend: "python"
max_batch_size: {most}
{tensors}
instance_group [{{ count: {instances} kind: KIND_CPU }}]
dynamic_batching {{ {batching} }}
response_cache {{ enable: {cached} }}
parameters {{ key: "onnx" value {{ string_value: "{onnx}" }} }}
parameters {{ key: "threads" value {{ string_value: "{threads}" }} }}
"""
TENSOR = '{kind} [{{ name: "{name}" data_type: TYPE_{datatype} dims: {dims} }}]'


def variants(model: Model, cores: int, forms: Collection[str]) -> Iterator[str]:
    """The configuration of each form that is wanted."""
    tuned = {"instances": cores, "threads": 1, "batching": "max_queue_delay_microseconds: 0", "cached": "false"}
    plain = {"instances": 1, "threads": 0, "batching": "", "cached": "false"}
    ways = {"": tuned, "-defaults": plain, "-cached": {**tuned, "cached": "true"}}
    tensors = "\n".join([*(_tensor("input", one) for one in model.inputs), _tensor("output", model.output)])
    for suffix in forms:
        fixed = {"name": model.name + suffix, "onnx": model.onnx, "most": MOST_ROWS, "tensors": tensors}
        yield CONFIGURATION.format(**fixed, **ways[suffix])


def _tensor(kind: str, one: Tensor) -> str:
    return TENSOR.format(kind=kind, name=one.name, datatype=one.datatype, dims=list(one.shape))


def write(spec: Spec) -> Path:
    """The model repository."""
    repository = Path(spec.folder) / "models"
    shutil.rmtree(repository, ignore_errors=True)
    for model in spec.models:
        for text in variants(model, spec.cores, spec.forms):
            folder = repository / text.split('"')[1]
            (folder / "1").mkdir(parents=True)
            (folder / "config.pbtxt").write_text(text)
            shutil.copyfile(Path(__file__).with_name("triton_model.py"), folder / "1" / "model.py")
    return repository


def backends(spec: Spec, home: Path) -> Path:
    """The Python backend with the stub for this interpreter beside it, where Triton looks for it."""
    version, copy = f"{sys.version_info.major}.{sys.version_info.minor}", Path(spec.folder) / "backends"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(home / "backends", copy)
    shutil.copy(home / "python_backend_stubs" / version / STUB, copy / "python" / STUB)
    return copy


def flags(spec: Spec, home: Path) -> list[str]:
    given = {
        "model-repository": write(spec),
        "backend-directory": backends(spec, home),
        "cache-directory": home / "caches",
        "cache-config": f"local,size={CACHE_BYTES}",
        "grpc-address": "127.0.0.1",
        "grpc-port": spec.port,
        "allow-http": "false",
        "allow-metrics": "false",
    }
    return [f"--{key}={value}" for key, value in given.items()]


def main() -> None:
    found = importlib.util.find_spec("pytriton")
    assert found and found.submodule_search_locations
    home = Path(found.submodule_search_locations[0]) / "tritonserver"
    server = home / "bin" / "tritonserver"
    os.execve(server, [str(server), *flags(told(), home)], environment(home))


def environment(home: Path) -> dict[str, str]:
    """This environment's interpreter and packages for the Python backend, and the wheel's libraries."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    libraries = str(home.parent.parent / "nvidia_pytriton.libs")
    packages = ":".join(filter(None, sys.path[1:]))
    return {**os.environ, "PATH": path, "PYTHONPATH": packages, "LD_LIBRARY_PATH": libraries}


if __name__ == "__main__":
    main()
