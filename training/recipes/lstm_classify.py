"""`lstm-classify`: LSTM 64 → LSTM 32 → linear on six sensors of a smart watch, or your own; cross entropy, Adam.

The article's code ends in softmax with a loss that takes probabilities; here the net ends in logits, the loss
takes those and serving applies softmax. It reads series of one length; here shorter ones are padded, and the state
is taken at each one's own end. Each feature is a standard score of the training rows, gradients are clipped, and
the layers begin as the article's library begins them: with this library's own first weights one seed of two
forgets the hundred steps.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field
from torch import nn

from services.sequence.models.lstm import LstmClassifier
from services.sequence.models.scaling import Scaling
from training.checkpoint import seed_everything
from training.data import basic_motions, labelled_csv
from training.data.labelled import SequenceSplit
from training.data.mnist import Fetch
from training.plan import Plan
from training.sequences import SequenceTraining, series_batch


class LstmPlan(Plan):
    """Thirty-two rows: a hundred passes are some seconds."""

    epochs: int = 100
    batch_size: int = 8
    learning_rate: float = 5e-3
    weight_decay: float = 1e-3
    clip_norm: float = 1.0
    schedule: str = "cosine"  # type: ignore[assignment]
    data: str = Field("", description="CSV of series with labels, a row a step; empty = BasicMotions")


class LstmClassify:
    """What somebody with this watch is doing, or classes of your own series."""

    name: ClassVar[str] = "lstm-classify"
    summary: ClassVar[str] = "LSTM 64 → LSTM 32 on BasicMotions or --data FILE.csv"
    plan: ClassVar[type[Plan]] = LstmPlan

    def begin(self, plan: LstmPlan, fetcher: Fetch) -> SequenceTraining:
        split, columns = _split(plan, fetcher)
        seed_everything(plan.seed)
        scaling = Scaling.of(np.concatenate(split.train.rows))
        features, classes = split.train.rows[0].shape[1], len(split.class_names)
        config = {"features": features, "hidden_sizes": [64, 32], "classes": classes, "embeds": True}
        net = LstmClassifier(config)
        for layer in net.layers:
            remember(layer)
        fields = manifest_fields(config, scaling, columns)
        return SequenceTraining(net, split, partial(series_batch, scaling), fields)


def _split(plan: LstmPlan, fetcher: Fetch) -> tuple[SequenceSplit, tuple[str, ...]]:
    """The rows, and the names of their features if they have any."""
    if not plan.data:
        return basic_motions.load(fetcher), ()
    found = labelled_csv.load(Path(plan.data))
    return labelled_csv.split(found), found.features


def remember(layer: nn.Module) -> None:
    """First weights of an LSTM: inputs Glorot uniform (Glorot & Bengio 2010), recurrent ones orthogonal (Saxe et
    al. 2014), biases 0 but the forget gate's 1 (Jozefowicz et al. 2015)."""
    for name, weights in layer.named_parameters():
        if name.startswith("bias"):
            nn.init.zeros_(weights)
        elif name.startswith("weight_ih"):
            for gate in weights.data.chunk(4):
                nn.init.xavier_uniform_(gate)
        else:
            nn.init.orthogonal_(weights)
    forget = layer.get_parameter("bias_ih_l0").data.chunk(4)[1]  # gates: input, forget, cell, output
    nn.init.ones_(forget)


def manifest_fields(config: dict[str, Any], scaling: Scaling, columns: Sequence[str] = ()) -> dict[str, Any]:
    """What the manifest says of an LSTM classifier of series; `columns` name its features in their order."""
    features, classes, embeds = config["features"], config["classes"], config.get("embeds", False)
    outputs = [("logits", classes), *([("features", config["hidden_sizes"][-1])] if embeds else [])]
    return {
        "tasks": ["sequence.classify", *(["sequence.embed"] if embeds else [])],
        "architecture": "lstm_classifier",
        "config": config,
        "inputs": [
            {"name": "series", "dtype": "float32", "shape": [-1, -1, features]},
            {"name": "lengths", "dtype": "int64", "shape": [-1]},
        ],
        "outputs": [{"name": name, "dtype": "float32", "shape": [-1, width]} for name, width in outputs],
        "preprocessing": {"kind": "series", **scaling.fields(), **({"columns": list(columns)} if columns else {})},
        "limits": {"max_values": labelled_csv.MOST_STEPS * features},
    }
