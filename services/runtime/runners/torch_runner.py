"""The reference runner: the training module itself, in inference mode. Knows no files."""

import numpy as np
import torch
from torch import Tensor, nn

from services.runtime.runners.base import Array, Arrays
from services.runtime.store.manifest import Manifest


class TorchRunner:
    """Runs `module(*inputs in manifest order)` on `device` and names its outputs."""

    def __init__(self, module: nn.Module, manifest: Manifest, device: str = "cpu", threads: int = 1) -> None:
        self._module: nn.Module | None = module.eval().to(device)
        self._device, self._threads = torch.device(device), threads
        self._inputs = [spec.name for spec in manifest.inputs]
        self._outputs = [spec.name for spec in manifest.outputs]

    def run(self, inputs: Arrays, alone: bool = True) -> dict[str, Array]:
        """Arrays by input name → arrays by output name, back in host memory."""
        if self._module is None:
            raise RuntimeError("the runner is closed")
        torch.set_num_threads(self._threads if alone else 1)  # a thread keeps its own count: set it here
        tensors = [self._tensor(inputs[name]) for name in self._inputs]
        with torch.inference_mode():
            result = self._module(*tensors)
        found = (result,) if isinstance(result, Tensor) else result
        return {name: value.cpu().numpy() for name, value in zip(self._outputs, found, strict=True)}

    def close(self) -> None:
        """Drop the module; its memory goes with the last reference."""
        self._module = None

    def _tensor(self, array: Array) -> Tensor:
        # torch refuses to promise not to write into a read-only buffer, so such an array is copied
        writable = np.require(array, requirements=["C", "W"])
        return torch.from_numpy(writable).to(self._device)
