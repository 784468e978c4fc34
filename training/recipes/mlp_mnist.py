"""`mlp-mnist`: a perceptron 784-10-10-10 on handwritten digits or your own pictures; ReLU, cross entropy, Adam.

One of the article's two sketches applies softmax before a cross entropy that takes logits, which makes gradients
small and the loss never less than 1.46, and takes one step an epoch over all rows at once. Here the net ends in
logits and steps are batches of 64. Pixels are normalised by the training rows' mean and deviation instead of being
left on 0–255. The articles measure on the rows they train on, if at all; here rows are held out, as everywhere.
"""

from pathlib import Path
from typing import Any, ClassVar

from services.runtime.errors import InvalidInput
from services.vision.models.mlp import Mlp
from training.checkpoint import seed_everything
from training.classification import PictureTraining
from training.data import folder, mnist
from training.data.folder import FolderPlan
from training.data.pictures import Split
from training.plan import Plan

SIZE, HIDDEN = 28, (10, 10)


class MlpPlan(FolderPlan):
    """Ten passes are past the knee; a minute on two cores."""

    epochs: int = 15
    batch_size: int = 64
    learning_rate: float = 2e-3
    schedule: str = "cosine"  # type: ignore[assignment]


class MlpMnist:
    """Grey pixels to classes without convolutions: the floor that the CNNs are held against."""

    name: ClassVar[str] = "mlp-mnist"
    summary: ClassVar[str] = "MLP 784-10-10-10 on MNIST or --data FOLDER"
    plan: ClassVar[type[Plan]] = MlpPlan

    def begin(self, plan: MlpPlan, fetcher: mnist.Fetch) -> PictureTraining:
        split = _split(plan, fetcher)
        seed_everything(plan.seed)
        inputs, classes = split.train.pixels[0].size, len(split.class_names)
        config: dict[str, Any] = {"inputs": inputs, "hidden": list(HIDDEN), "classes": classes}
        return PictureTraining(Mlp(inputs, HIDDEN, classes), split, "mlp", config, plan.is_private)


def _split(plan: MlpPlan, fetcher: mnist.Fetch) -> Split:
    if plan.data:
        return folder.load(Path(plan.data), plan.size or SIZE, channels=1)
    if plan.size:
        raise InvalidInput("size", "is for --data; digits have 28 pixels a side")
    return mnist.load(fetcher)
