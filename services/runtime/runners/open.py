"""Manifest + settings → the runner that serves it. torch is imported only if torch must run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from services.runtime.errors import PreconditionFailed
from services.runtime.runners.base import ONNX_FILE, Runner
from services.runtime.store.manifest import Manifest

if TYPE_CHECKING:
    from torch import nn

RunnerName = Literal["torch", "onnxruntime"]


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """`force` overrides the manifest's choice; `threads` compute one call; `device` is torch's."""

    force: RunnerName | None = None
    threads: int = 1
    device: str = "cpu"


def effective(manifest: Manifest, settings: RunnerSettings) -> Manifest:
    """The manifest as served: a forced runner is part of the digest, as answers may differ by rounding."""
    if settings.force is None or settings.force == manifest.runner:
        return manifest
    return manifest.model_copy(update={"runner": settings.force})


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
        return _open_onnx(served, directory / ONNX_FILE, settings)
    if served.runner == "torch":
        return _open_torch(served, directory, build_module, settings)
    raise PreconditionFailed(f"model {manifest.name} has runner {served.runner!r}: it is not run from here")


def _open_onnx(manifest: Manifest, path: Path, settings: RunnerSettings) -> Runner:
    from services.runtime.runners.onnx_runner import OnnxRunner

    if not path.is_file():
        raise PreconditionFailed(
            f"model {manifest.name} version {manifest.version} has no {path.name}: "
            "publish it again with an export, or set the runner to torch"
        )
    return OnnxRunner(path, manifest, settings.threads)


def _open_torch(
    manifest: Manifest,
    directory: Path,
    build_module: Callable[[Manifest, Path], "nn.Module"],
    settings: RunnerSettings,
) -> Runner:
    from services.runtime.runners.torch_runner import TorchRunner

    return TorchRunner(build_module(manifest, directory), manifest, settings.device, settings.threads)
