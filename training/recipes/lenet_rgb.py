"""`lenet-rgb`: LeNet for colour, SGD with momentum 0.9, on emoji of nine classes or a user's pictures.

The article's code forgets its import of `F`, and names no data. Its constant step size of 0.001 becomes 0.01 that
falls, with weight decay and patience, for there are few rows; the split puts no emoji into two parts. Pixels are
normalised by the training rows' mean and deviation.
"""

from pathlib import Path
from typing import Any, ClassVar

from services.runtime.errors import InvalidInput
from services.vision.models.lenet import LeNet
from training.checkpoint import seed_everything
from training.classification import PictureTraining
from training.data import emoji, folder
from training.data.folder import FolderPlan
from training.data.mnist import Fetch
from training.data.pictures import Split
from training.plan import Plan

SIZE = 32


class LeNetPlan(FolderPlan):
    """Few rows, which the net soon knows by heart: decay and patience keep it from sure guesses."""

    epochs: int = 30
    batch_size: int = 32
    optimizer: str = "sgd"  # type: ignore[assignment]
    learning_rate: float = 0.01
    weight_decay: float = 5e-3
    schedule: str = "cosine"  # type: ignore[assignment]
    patience: int = 5


class LeNetRgb:
    """Colour pictures to classes."""

    name: ClassVar[str] = "lenet-rgb"
    summary: ClassVar[str] = "LeNet on 32×32 colour emoji or --data FOLDER"
    plan: ClassVar[type[Plan]] = LeNetPlan

    def begin(self, plan: LeNetPlan, fetcher: Fetch) -> PictureTraining:
        split = _split(plan, fetcher)
        seed_everything(plan.seed)
        config: dict[str, Any] = {
            "channels": 3,
            "size": split.train.pixels.shape[1],
            "classes": len(split.class_names),
        }
        return PictureTraining(LeNet(**config), split, "lenet", config, plan.is_private)


def _split(plan: LeNetPlan, fetcher: Fetch) -> Split:
    if plan.data:
        return folder.load(Path(plan.data), plan.size or SIZE, channels=3)
    if plan.size:
        raise InvalidInput("size", "is for --data; emoji have 32 pixels a side")
    return emoji.load(fetcher)
