"""Manifest + settings → the runner that serves it. torch is imported only if torch must run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from services.runtime.errors import PreconditionFailed
from services.runtime.heavy import read_ahead
from services.runtime.runners.base import ONNX_FILES, Precision, Runner
from services.runtime.store.manifest import Manifest

if TYPE_CHECKING:
    from torch import nn

RunnerName = Literal["torch", "onnxruntime"]


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """`force` and `precision` override the manifest's choice; `device` is torch's.

    `threads` compute a call that is alone; `lanes` calls may run beside each other.
    """

    force: RunnerName | None = None
    threads: int = 1
    device: str = "cpu"
    precision: Precision | None = None
    lanes: int = 1


def effective(manifest: Manifest, settings: RunnerSettings) -> Manifest:
    """The manifest as served: runner and precision are part of the digest, as answers differ with them.

    Eight bits are what ONNX Runtime was measured with: torch computes in fp32.
    """
    runner = settings.force or manifest.runner
    precision = settings.precision or ("fp32" if runner == "torch" else manifest.precision)
    if (runner, precision) == (manifest.runner, manifest.precision):
        return manifest
    return manifest.model_copy(update={"runner": runner, "precision": precision})


def open_runner(
    manifest: Manifest,
    directory: Path,
    build_module: Callable[[Manifest, Path], "nn.Module"],
    settings: RunnerSettings,
) -> Runner:
    """The runner that `effective(manifest, settings)` names, loaded and ready.

    `build_module` is called for torch only; let it import torch itself. Raises PreconditionFailed when the
    version was published without what the runner needs.
    """
    served = effective(manifest, settings)
    if served.runner == "onnxruntime":
        return _open_onnx(served, directory, settings)
    if served.runner == "torch":
        return _open_torch(served, directory, build_module, settings)
    raise PreconditionFailed(f"model {manifest.name} has runner {served.runner!r}: it is not run from here")


def _open_onnx(manifest: Manifest, directory: Path, settings: RunnerSettings) -> Runner:
    from services.runtime.runners.onnx_runner import OnnxRunner

    if manifest.precision not in ONNX_FILES:
        raise PreconditionFailed(f"model {manifest.name}: {manifest.precision!r} is no precision it is run in")
    path = directory / ONNX_FILES[manifest.precision]
    if not path.is_file():
        instead = "set the runner to torch" if manifest.precision == "fp32" else "set the precision to fp32"
        raise PreconditionFailed(
            f"model {manifest.name} version {manifest.version} has no {path.name}: publish it again with one, "
            f"or {instead}"
        )
    return OnnxRunner(path, manifest, settings.threads, settings.lanes)


def _open_torch(
    manifest: Manifest,
    directory: Path,
    build_module: Callable[[Manifest, Path], "nn.Module"],
    settings: RunnerSettings,
) -> Runner:
    read_ahead()
    from services.runtime.runners.torch_runner import TorchRunner

    if manifest.precision != "fp32":
        raise PreconditionFailed(f"model {manifest.name}: torch computes in fp32, not in {manifest.precision}")
    return TorchRunner(build_module(manifest, directory), manifest, settings.device, settings.threads)
