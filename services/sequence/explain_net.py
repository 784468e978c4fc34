"""The reference net of a classifier, asked for gradients step by step. Knows no queue, no text, no proto."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from services.runtime.attribution import StraightPath
from services.runtime.runners.base import Array
from services.runtime.runners.open import RunnerSettings
from services.runtime.store.manifest import Manifest
from services.sequence.models import registry
from services.sequence.models.encode import Floats, Ids
from services.sequence.models.net import NEXT

# steps [N, T, D] → what the classes are judged by [N, K]
Classes = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """One sequence [1, T, D] of which each step can be turned towards its `baseline`."""

    classes: Classes
    inputs: Tensor
    baseline: Tensor

    def judged(self) -> Array:
        """[K] of the inputs."""
        with torch.no_grad():
            found: Array = self.classes(self.inputs)[0].cpu().numpy()
        return found

    def path(self, target: int) -> StraightPath:
        return StraightPath(lambda steps: self.classes(steps)[:, target], self.baseline, self.inputs)


class ExplainNet:
    """Builds subjects; all but the constructor runs on the device thread."""

    def __init__(self, manifest: Manifest, directory: Path, settings: RunnerSettings) -> None:
        self._module = registry.load(manifest, directory).requires_grad_(False).to(settings.device)
        self._manifest, self._device, self._threads = manifest, settings.device, settings.threads

    def text(self, ids: Ids, blank: Ids) -> Subject:
        """Word embeddings of `ids` [T] against those of `blank` [T]; classes are judged by logits."""
        words = _word_embeddings(self._module)
        row = self._tensor(ids)
        return Subject(lambda steps: self._read(words, row, steps), words(row), words(self._tensor(blank)))

    def series(self, scores: Floats) -> Subject:
        """Standard scores [T, F] against the mean of the training data, 0; classes are judged by logits."""
        steps = self._tensor(scores)
        return Subject(self._measure, steps, torch.zeros_like(steps))

    def stream(self, frames: Floats) -> Subject:
        """Frames [T, F] from fresh state against silence; classes are judged by their mean probability."""
        steps = self._tensor(frames)
        return Subject(self._hear, steps, torch.zeros_like(steps))

    def _read(self, words: nn.Embedding, ids: Tensor, steps: Tensor) -> Tensor:
        """Logits of `ids` with the word embeddings `steps` in the place of theirs."""
        ids = ids.expand(len(steps), -1)
        known = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
        hook = words.register_forward_hook(lambda *_: steps)
        try:
            return self._run([known[spec.name] for spec in self._manifest.inputs])["logits"]
        finally:
            hook.remove()

    def _measure(self, steps: Tensor) -> Tensor:
        lengths = torch.full((len(steps),), steps.shape[1], device=steps.device)
        return self._run([steps, lengths])[self._manifest.outputs[0].name]

    def _hear(self, steps: Tensor) -> Tensor:
        """Means over all steps; a single score is the probability of the second of two classes."""
        first, scores = self._manifest.outputs[0].name, []
        state = [self._fresh(spec.shape, len(steps)) for spec in self._manifest.inputs[1:]]
        for frame in steps.unbind(1):
            found = self._run([frame, *state])
            scores.append(found[first])
            state = [found[NEXT + spec.name] for spec in self._manifest.inputs[1:]]
        mean = torch.stack(scores).mean(0)
        return mean if mean.shape[1] > 1 else torch.cat([1 - mean, mean], dim=1)

    def _fresh(self, shape: Sequence[int], rows: int) -> Tensor:
        return torch.zeros([size if size >= 0 else rows for size in shape], device=self._device)

    def _run(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        torch.set_num_threads(self._threads)  # a thread keeps its own count: set it where the work is done
        # cuDNN refuses gradients of a recurrent net that is not in training; the plain kernels do not
        with torch.backends.cudnn.flags(enabled=False):
            found = self._module(*inputs)
        return dict(zip([spec.name for spec in self._manifest.outputs], found, strict=True))

    def _tensor(self, values: Array) -> Tensor:
        return torch.tensor(values, device=self._device)[None]


def _word_embeddings(module: nn.Module) -> nn.Embedding:
    """The table that ids are looked up in: a net defines it first."""
    return next(found for found in module.modules() if isinstance(found, nn.Embedding))
