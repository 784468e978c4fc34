"""The reference net of a model, asked for gradients. Knows no queue, no file format and no colour."""

from pathlib import Path

import torch
from captum.attr import LayerAttribution, LayerGradCam
from torch import Tensor, nn

from services.runtime.attribution import StraightPath
from services.runtime.errors import InvalidInput
from services.runtime.runners.base import Array
from services.runtime.runners.open import RunnerSettings
from services.runtime.store.manifest import Manifest
from services.vision.models import registry


class ExplainNet:
    """Logits of one version and what they depend on. Everything but the constructor runs on the device thread."""

    def __init__(self, manifest: Manifest, directory: Path, settings: RunnerSettings) -> None:
        self._module = registry.load(manifest, directory).requires_grad_(False).to(settings.device)
        self._name, self._device, self._threads = manifest.name, settings.device, settings.threads
        self._output = [spec.name for spec in manifest.outputs].index("logits")

    def logits(self, pixels: Array) -> Array:
        """float32 [C, H, W] → [classes]."""
        with torch.no_grad():
            found: Array = self._logits(self._tensor(pixels))[0].cpu().numpy()
        return found

    def path(self, pixels: Array, baseline: Array, target: int) -> StraightPath:
        """From `baseline` to `pixels`, both float32 [C, H, W], through the logit of class `target`."""
        return StraightPath(
            lambda images: self._logits(images)[:, target], self._tensor(baseline), self._tensor(pixels)
        )

    def grad_cam(self, pixels: Array, target: int) -> Array:
        """Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391), float32 [H, W] ≥ 0.

        ReLU(Σ_k α_k A_k), α_k the mean gradient of the target's logit over map k of the last feature maps,
        stretched to the picture. Raises InvalidInput for a net without convolutions.
        """
        layer, images = self._last_maps(self._tensor(pixels)), self._tensor(pixels).requires_grad_()
        method = LayerGradCam(lambda rows: self._logits(rows)[:, target], layer)
        coarse = method.attribute(images, relu_attributions=True).detach()
        found: Array = LayerAttribution.interpolate(coarse, pixels.shape[1:], "bilinear")[0, 0].cpu().numpy()
        return found

    def _last_maps(self, images: Tensor) -> nn.Module:
        """The module that gives the last feature maps of more than one place on the way to the logits."""
        if not any(isinstance(module, nn.Conv2d) for module in self._module.modules()):
            hint = "ask for EXPLAIN_METHOD_INTEGRATED_GRADIENTS"
            raise InvalidInput("method", f"Grad-CAM needs convolutions and {self._name} has none; {hint}")
        seen: list[nn.Module] = []

        def note(module: nn.Module, _: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and output[0, 0].numel() > 1:
                seen.append(module)

        hooks = [module.register_forward_hook(note) for module in self._module.modules()]
        try:
            self.logits(images[0].cpu().numpy())
        finally:
            for hook in hooks:
                hook.remove()
        return seen[-1]

    def _logits(self, images: Tensor) -> Tensor:
        torch.set_num_threads(self._threads)  # a thread keeps its own count: set it where the work is done
        found: Tensor = self._module(images)[self._output]
        return found

    def _tensor(self, pixels: Array) -> Tensor:
        return torch.tensor(pixels, device=self._device)[None]
