"""`mlp-mnist`: a perceptron 784-10-10-10 on handwritten digits; ReLU, cross entropy, Adam.

The article's sketch applies softmax before the cross entropy, which takes logits: the gradients vanish. Here the
net ends in logits. Pixels are normalised by the training rows' mean and deviation instead of being left on 0–255.
"""

from typing import ClassVar

from services.vision.models.mlp import Mlp
from training.checkpoint import seed_everything
from training.classification import PictureTraining
from training.data import mnist
from training.plan import Plan


class MlpPlan(Plan):
    """Ten passes are past the knee; a minute on two cores."""

    epochs: int = 15
    batch_size: int = 64
    learning_rate: float = 2e-3
    schedule: str = "cosine"  # type: ignore[assignment]


class MlpMnist:
    """Pixels to digits without convolutions: the floor that the CNNs are held against."""

    name: ClassVar[str] = "mlp-mnist"
    summary: ClassVar[str] = "MLP 784-10-10-10 on MNIST"
    plan: ClassVar[type[Plan]] = MlpPlan

    def begin(self, plan: Plan, fetcher: mnist.Fetch) -> PictureTraining:
        split = mnist.load(fetcher)
        seed_everything(plan.seed)
        config = {"inputs": 784, "hidden": [10, 10], "classes": 10}
        return PictureTraining(Mlp(784, (10, 10), 10), split, "mlp", config)
