"""Which pixels decided: one model's explanations, its net loaded at the first. Knows no proto and no framework."""

import asyncio
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from services.runtime.batcher import Outcome
from services.runtime.device import DeviceThread
from services.runtime.errors import InvalidInput
from services.runtime.heavy import read_ahead
from services.runtime.opened import Opened
from services.runtime.pictures.preprocess import ImagePreprocessing
from services.runtime.runners.base import Array
from services.runtime.store.manifest import Manifest
from services.runtime.turns import Turn, Turns
from services.vision import heatmap
from services.vision.predict import softmax
from services.vision.prepare import Prepared
from services.vision.settings import VisionSettings

if TYPE_CHECKING:
    from services.vision.explain_net import ExplainNet

STEPS_AT_ONCE = 2  # pictures in one turn on the device; others wait no longer than for these


class Method(Enum):
    INTEGRATED_GRADIENTS = "integrated gradients"
    GRAD_CAM = "Grad-CAM"


@dataclass(frozen=True, slots=True)
class Question:
    """`target` None = the best class; `steps` of integration; `overlay`: draw it, too."""

    target: int | None
    method: Method
    steps: int
    overlay: bool


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """`heat` float32 [H, W]. Integrated gradients: signed, sums to the rise of the target's logit from black.

    `delta` is what that sum misses; 0 for Grad-CAM, which promises no sum. `score` is the target's probability.
    """

    target: int
    score: float
    heat: Array
    delta: float
    png: bytes


class Explainer:
    """Explains answers of one version on the reference net, whatever runner serves them."""

    def __init__(
        self, manifest: Manifest, directory: Path, device: DeviceThread, settings: VisionSettings
    ) -> None:
        self._preprocessing = ImagePreprocessing.of(manifest)
        self._turns = Turns(device, settings.explain_limit)
        self._net = Opened(lambda: _open(manifest, directory, settings))

    async def explain(self, item: Prepared, question: Question, deadline: float | None) -> Outcome[Explanation]:
        """Raises Overloaded, DeadlinePassed between turns, InvalidInput when the net's numbers overflow."""
        with self._turns.take(deadline) as turn:
            net = await self._net.get()
            scores = softmax(await turn.run(net.logits, item.pixels))
            target = int(scores.argmax()) if question.target is None else question.target
            heat, delta = await self._heat(net, item, question, target, turn)
            if not (np.isfinite(scores).all() and np.isfinite(heat).all()):
                raise InvalidInput(item.field, "its values are so large that the model's answer is not finite")
            png = await self._drawn(item, heat) if question.overlay else b""
            return turn.outcome(Explanation(target, float(scores[target]), heat, delta, png))

    async def _heat(
        self, net: "ExplainNet", item: Prepared, question: Question, target: int, turn: Turn
    ) -> tuple[Array, float]:
        """[H, W] and the convergence delta; a pixel's channels are added up, so that the sum stays."""
        from services.runtime.attribution import integrate

        if question.method is Method.GRAD_CAM:
            return await turn.run(net.grad_cam, item.pixels, target), 0.0
        path = net.path(item.pixels, self._black(), target)
        found = await integrate(path, question.steps, STEPS_AT_ONCE, turn)
        return found.values.sum(axis=0), found.delta

    async def _drawn(self, item: Prepared, heat: Array) -> bytes:
        return await asyncio.to_thread(heatmap.overlay, item.pixels, self._preprocessing, heat)

    def _black(self) -> Array:
        """The baseline, a picture without light: float32 [C, H, W]."""
        mean, std = (
            np.array(scale, np.float32)[:, None, None]
            for scale in (self._preprocessing.mean, self._preprocessing.std)
        )
        return np.broadcast_to(-mean / std, self._preprocessing.shape).copy()

    def close(self) -> None:
        """Let go of the net."""
        self._net.close()


def _open(manifest: Manifest, directory: Path, settings: VisionSettings) -> "ExplainNet":
    read_ahead()
    # imported here: a process that is never asked to explain never pays for torch and captum
    from services.vision.explain_net import ExplainNet

    return ExplainNet(manifest, directory, settings.runner_settings)
