"""Manifest and directory → a model in memory, built on the device thread. Imports torch only if a net needs it."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.runtime.device import DeviceThread
from services.runtime.metrics import Metrics
from services.runtime.oip_statistics import Tallies
from services.runtime.queue_metrics import QueueMetrics
from services.runtime.runners.open import effective, open_runner
from services.runtime.store.manifest import Manifest
from services.runtime.text import tokenizer as tokenizers
from services.runtime.text.tokenizer import Tokenizer
from services.sequence.explain import Explainer
from services.sequence.models import spread
from services.sequence.models.net import Net
from services.sequence.settings import SequenceSettings
from services.sequence.tensor_model import TensorModel

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Loader:
    """What a model host calls to load a version. Explanations have a thread of their own: their nets take one."""

    device: DeviceThread
    explaining: DeviceThread
    settings: SequenceSettings
    metrics: Metrics
    tallies: Tallies

    async def __call__(self, manifest: Manifest, directory: Path) -> TensorModel:
        runner = await self.device.run(open_runner, manifest, directory, _module, self.settings.runners)
        net = Net(runner, effective(manifest, self.settings.runners))
        tokenizer = await asyncio.to_thread(_tokenizer, manifest, directory)
        observer = self.tallies.begin(manifest.name, manifest.version, QueueMetrics(self.metrics, manifest.name))
        labels = _labels(manifest, directory)
        explainer = Explainer(net, directory, self.explaining, self.settings)
        errors = await asyncio.to_thread(spread.load, manifest, directory)
        return TensorModel(net, tokenizer, labels, self.device, self.settings, observer, explainer, errors)


def _module(manifest: Manifest, directory: Path) -> "nn.Module":
    from services.sequence.models import registry

    return registry.load(manifest, directory)


def _tokenizer(manifest: Manifest, directory: Path) -> Tokenizer | None:
    return tokenizers.load(manifest, directory) if manifest.tokenizer else None


def _labels(manifest: Manifest, directory: Path) -> list[str]:
    return (directory / manifest.labels).read_text("utf-8").splitlines() if manifest.labels else []
