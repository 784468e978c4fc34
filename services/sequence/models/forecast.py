"""A window of a series → the steps after it, each fed back to give the next. Knows no proto, no queue."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.runtime.errors import InvalidInput
from services.runtime.store.manifest import Manifest
from services.sequence.models.encode import Floats, check_steps
from services.sequence.models.net import Net


@dataclass(frozen=True, slots=True, eq=False)
class Ahead:
    """Standard scores [W, F] of the last steps known, and how many after them are wanted."""

    window: Floats
    steps: int


def last_window(values: Floats, manifest: Manifest, field: str) -> Floats:
    """The last W steps of [T, F], W and F from the only input [-1, W, F].

    InvalidInput for another width, or fewer than W steps.
    """
    check_steps(values, manifest, field)
    length = manifest.inputs[0].shape[1]
    if len(values) < length:
        raise InvalidInput(
            field, f"has {len(values)} steps; {manifest.name} looks at the last {length}: send more"
        )
    return values[-length:]


def predict_ahead(net: Net, parts: Sequence[Ahead]) -> list[Floats]:
    """Standard scores [steps, F] for each part, all parts side by side."""
    # Longest first: the parts still going are always the first rows.
    order = sorted(range(len(parts)), key=lambda index: -parts[index].steps)
    windows = np.stack([parts[index].window for index in order])
    source, target = net.manifest.inputs[0].name, net.manifest.outputs[0].name
    found: list[Floats] = []
    for step in range(parts[order[0]].steps):
        windows = windows[: sum(part.steps > step for part in parts)]
        found.append(net.runner.run({source: windows})[target])
        windows = np.concatenate([windows[:, 1:], found[-1][:, None]], axis=1)
    rows = {index: row for row, index in enumerate(order)}
    return [np.stack([step[rows[i]] for step in found[: part.steps]]) for i, part in enumerate(parts)]
