"""Honest small nets behind the Runner protocol: their answers can be computed by hand."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.runtime.store.manifest import Manifest, TensorSpec
from services.sequence.models.net import Net

Arrays = Mapping[str, NDArray[Any]]


class SumRunner:
    """A stream's score is the running sum of all its frames' values; counts its calls and their rows."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        self.rows.append(len(inputs["frame"]))
        total = inputs["total"] + inputs["frame"].sum(axis=1)[None, :, None]
        return {"score": total[0], "next_total": total}

    def close(self) -> None:
        pass


class HiddenRunner:
    """Hidden states [id, 1] at real tokens and NaN-proof garbage (1e6) at padded ones."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        self.shapes.append(ids.shape)
        hidden = np.stack([ids, np.ones_like(ids)], axis=-1).astype(np.float32)
        return {"last_hidden_state": np.where(mask[:, :, None] == 1, hidden, 1e6).astype(np.float32)}

    def close(self) -> None:
        pass


def spec(name: str, *shape: int, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def sum_net(runner: SumRunner) -> Net:
    manifest = Manifest(
        name="sum",
        version=1,
        tasks=("sequence.session",),
        inputs=(spec("frame", -1, 4), spec("total", 1, -1, 1)),
        outputs=(spec("score", -1, 1), spec("next_total", 1, -1, 1)),
    )
    return Net(runner, manifest)


def hidden_net(runner: HiddenRunner, **preprocessing: Any) -> Net:
    manifest = Manifest(
        name="hidden",
        version=1,
        tasks=("sequence.embed",),
        inputs=(spec("input_ids", -1, -1, dtype="int64"), spec("attention_mask", -1, -1, dtype="int64")),
        outputs=(spec("last_hidden_state", -1, -1, 2),),
        preprocessing=preprocessing,
    )
    return Net(runner, manifest)
