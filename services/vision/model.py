"""One loaded model version: recipe, runner, labels and its queue to the device. Knows no proto."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from services.runtime.batcher import MicroBatcher, Observer, Outcome
from services.runtime.device import DeviceThread
from services.runtime.errors import InvalidInput, PreconditionFailed
from services.runtime.lanes import Lanes
from services.runtime.pictures.preprocess import ImagePreprocessing
from services.runtime.ranking import Ranking
from services.runtime.runners.base import Array
from services.runtime.runners.open import effective, open_runner
from services.runtime.runners.samples import concrete_shape, synthesise
from services.runtime.store.manifest import Manifest, TensorSpec
from services.vision.explain import Explainer, Explanation, Question
from services.vision.predict import Prediction, Predictor
from services.vision.prepare import MOST_TOGETHER, Picture, Prepared, Preparer, Recipe, block
from services.vision.settings import VisionSettings

if TYPE_CHECKING:
    from torch import nn


Answered = list[Prediction | Exception]

MAX_IMAGES = 64
PROTOCOL_DTYPES = {"float32": "FP32"}


@dataclass(frozen=True, slots=True)
class Means:
    """What all models of a process share: the pool that decodes, lanes that predict, the thread that explains."""

    preparer: Preparer
    lanes: Lanes
    explaining: DeviceThread

    def close(self) -> None:
        """Lets what runs finish."""
        self.preparer.close()
        self.lanes.close()
        self.explaining.close()


class VisionModel:
    """Answers for pictures. Created by `load`."""

    oip_rows = MAX_IMAGES
    oip_idle_s = None

    def __init__(
        self,
        manifest: Manifest,
        predictor: Predictor,
        labels: Sequence[str],
        means: Means,
        explainer: Explainer,
        settings: VisionSettings,
        observer: Observer | None,
    ) -> None:
        self.manifest, self.labels, self.ranking = manifest, labels, Ranking(labels)
        self._explainer = explainer
        self.recipe = Recipe(ImagePreprocessing.of(manifest), manifest.inputs[0].shape[1:])
        self._predictor, self._preparer, self._lanes = predictor, means.preparer, means.lanes
        self._budget = max(settings.batch_images, MOST_TOGETHER // math.prod(self.recipe.shape))
        self._batcher: MicroBatcher[Prepared, Prediction] = MicroBatcher(
            predictor.run,
            execute=self._execute,
            budget=self._budget,
            cost=lambda item: len(item.rows),
            queue_limit=settings.image_queue_limit,
            parallel=means.lanes.count,
            ahead=means.lanes.count,
            observer=observer,
        )

    async def predict(
        self, pictures: Sequence[Picture], deadline: float | None, patient: bool = False
    ) -> list[Outcome[Prediction]]:
        """One outcome a picture, in order. The first failure ends the whole call and takes back what waits.

        When too many pictures are at work: Overloaded, or if `patient` it waits for places.
        """
        async with self._preparer.places.hold(len(pictures), patient):
            prepared = await self._preparer.prepare(pictures, self.recipe, deadline)
            return await self._batcher.submit_all(prepared, deadline)

    async def predict_block(
        self, whole: Prepared, deadline: float | None, patient: bool = False
    ) -> Outcome[Prediction]:
        """One answer for all rows of a block. Raises as `predict` does."""
        async with self._preparer.places.hold(len(whole.pixels), patient):
            done = await self._batcher.submit(whole, deadline)
        return Outcome(done.value, done.queue_ms, done.compute_ms, done.value.together)

    def _execute(self, run: Callable[..., Answered], batch: list[Prepared]) -> "asyncio.Future[Answered]":
        return self._lanes.run(run, batch, self._lanes.idle and self._batcher.idle)

    async def explain(self, picture: Picture, question: Question, deadline: float | None) -> Outcome[Explanation]:
        """Which pixels of one picture decided."""
        async with self._preparer.places.hold(1):
            (prepared,) = await self._preparer.prepare([picture], self.recipe, deadline)
        return await self._explainer.explain(prepared, question, deadline)

    @cached_property
    def oip_inputs(self) -> tuple[TensorSpec, ...]:
        """What the Open Inference Protocol takes: normalised pictures."""
        return tuple(_protocol(spec) for spec in self.manifest.inputs)

    @cached_property
    def oip_outputs(self) -> tuple[TensorSpec, ...]:
        """What it gives: logits and features."""
        return tuple(_protocol(spec) for spec in self.manifest.outputs)

    @cached_property
    def oip_labels(self) -> Mapping[str, Sequence[str]]:
        """The classes of the logits."""
        return {"logits": self.labels}

    async def infer(self, inputs: Mapping[str, Array], deadline: float | None) -> dict[str, Array]:
        """Logits and features by name for up to MAX_IMAGES pictures float32 [N, C, H, W]."""
        (images,) = inputs.values()
        if len(images) > MAX_IMAGES:
            raise InvalidInput("inputs[0].shape", f"has {len(images)} pictures; at most {MAX_IMAGES} are taken")
        whole = block(images, "inputs[0][{}]")
        if whole is not None:
            found = (await self.predict_block(whole, deadline)).value
            return {"logits": found.logits, "features": found.features}
        rows = [Picture(f"inputs[0][{row}]", image) for row, image in enumerate(images)]
        answers = [outcome.value for outcome in await self.predict(rows, deadline)]
        return {
            "logits": np.stack([answer.logits for answer in answers]),
            "features": np.stack([answer.features for answer in answers]),
        }

    async def warm_up(self) -> None:
        """Runs noise through the net; raises PreconditionFailed unless the answer is finite and as declared.

        Batches of a net that is done at once are computed one after another: on threads beside each other they
        would do little but take the interpreter from each other, and from the loop.
        """
        (sample,) = synthesise(self.manifest, [1])
        item = Prepared("warm-up", next(iter(sample.values()))[0])
        for alone in (False, True):
            (answer,) = await self._lanes.run(self._predictor.run, [item], alone)
            self._check_answer(answer)
        if await self._lanes.run(self._predictor.is_brief, self._budget):
            self._batcher.narrow()

    def _check_answer(self, answer: Prediction | Exception) -> None:
        if isinstance(answer, Exception):
            raise PreconditionFailed(f"{self.manifest.name} gives no finite answer to a sample") from answer
        wanted = {spec.name: concrete_shape(spec, 1)[1:] for spec in self.manifest.outputs}
        got = {"logits": answer.logits.shape, "features": answer.features.shape}
        if wanted != got or len(self.labels) != answer.scores.size:
            raise PreconditionFailed(
                f"{self.manifest.name} answers {got} with {len(self.labels)} labels; its manifest says {wanted}"
            )

    async def close(self) -> None:
        """Ends what is accepted, then frees the net."""
        await self._batcher.close()
        self._explainer.close()
        await self._lanes.run(self._predictor.close)


async def load(
    manifest: Manifest,
    directory: Path,
    means: Means,
    settings: VisionSettings,
    observer: Observer | None = None,
) -> VisionModel:
    """Opens the version with the runner that the settings allow; the lanes go on serving others meanwhile.

    Raises PreconditionFailed for a manifest that describes no image classifier.
    """
    _check(manifest)
    served = effective(manifest, settings.runner_settings)
    runner = await asyncio.to_thread(open_runner, served, directory, _build, settings.runner_settings)
    labels = (directory / served.labels).read_text(encoding="utf-8").splitlines() if served.labels else []
    explainer = Explainer(served, directory, means.explaining, settings)
    return VisionModel(served, Predictor(runner, served), labels, means, explainer, settings, observer)


def _check(manifest: Manifest) -> None:
    if {spec.dtype for spec in (*manifest.inputs, *manifest.outputs)} - PROTOCOL_DTYPES.keys():
        raise PreconditionFailed(f"{manifest.name} does not speak float32 only, as vision models do")
    shapes = [spec.shape for spec in manifest.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][0] != -1 or min(shapes[0][1:]) < 1:
        raise PreconditionFailed(f"{manifest.name} takes {shapes}; a vision model takes one [-1, C, H, W]")
    made = ImagePreprocessing.of(manifest).shape
    if made != shapes[0][1:]:
        raise PreconditionFailed(f"preprocessing of {manifest.name} gives {made}; the net takes {shapes[0][1:]}")
    outputs = [spec.name for spec in manifest.outputs]
    if sorted(outputs) != ["features", "logits"]:
        raise PreconditionFailed(f"{manifest.name} gives {outputs}; a vision model gives logits and features")


def _protocol(spec: TensorSpec) -> TensorSpec:
    return spec.model_copy(update={"dtype": PROTOCOL_DTYPES[spec.dtype]})


def _build(manifest: Manifest, directory: Path) -> "nn.Module":
    # imported here: a process whose models all run on ONNX Runtime never pays for torch
    from services.vision.models import registry

    return registry.load(manifest, directory)
