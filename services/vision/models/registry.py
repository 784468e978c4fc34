"""Architecture name → module, with random weights or a store's. Refuses to know images or serving."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest
from services.runtime.weights import load_weights
from services.vision.models import conv_net, efficientnet_lite, lenet, mlp, mnist_cnn

WEIGHTS_FILE = "model.safetensors"

# architecture → (class, rename table of its checkpoints)
ARCHITECTURES: Mapping[str, tuple[Callable[..., nn.Module], Mapping[str, str]]] = {
    "conv_net": (conv_net.ConvNet, {}),
    "efficientnet_lite0": (efficientnet_lite.EfficientNetLite0, efficientnet_lite.RENAME),
    "lenet": (lenet.LeNet, {}),
    "mlp": (mlp.Mlp, {}),
    "mnist_cnn": (mnist_cnn.MnistCnn, mnist_cnn.RENAME),
}


def build(architecture: str, config: Mapping[str, Any]) -> nn.Module:
    """A module of the named architecture with random weights. Raises PreconditionFailed if unknown."""
    constructor, _ = _known(architecture)
    try:
        return constructor(**config)
    except TypeError as error:
        raise PreconditionFailed(f"config of {architecture} is wrong: {error}") from error


def load(manifest: Manifest, directory: Path) -> nn.Module:
    """The module of `manifest` with the weights in `directory`, in eval mode."""
    _, rename = _known(manifest.architecture)
    module = build(manifest.architecture, manifest.config)
    load_weights(module, directory / WEIGHTS_FILE, rename)
    return module.eval()


def _known(architecture: str) -> tuple[Callable[..., nn.Module], Mapping[str, str]]:
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise PreconditionFailed(f"vision architecture {architecture!r} is unknown; known: {known}")
    return ARCHITECTURES[architecture]
