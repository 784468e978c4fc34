"""Everything a run needs to go on exactly where it was: weights, optimiser, schedule, random states, place.

Written aside and renamed, so that kill -9 at any moment leaves the last whole one.
"""

import os
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

FILE = "checkpoint.pt"


@dataclass(slots=True)
class Place:
    """Where a run is. `step` counts optimiser steps in all, `batch` those of the present epoch."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    best: float = float("-inf")
    best_epoch: int = -1
    loss_sum: float = 0.0


def save(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Any,
    place: Place,
    plan: dict[str, Any],
) -> None:
    """Replaces the folder's checkpoint atomically."""
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "place": asdict(place),
        "plan": plan,
        "random": _random_states(),
    }
    aside = folder / (FILE + ".tmp")
    with aside.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(folder / FILE)


def load(folder: Path) -> dict[str, Any] | None:
    """The last whole checkpoint (tensors and plain values only), or None."""
    path = folder / FILE
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    return state


def restore(state: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, schedule: Any) -> Place:
    """Puts a loaded state back; returns the place to go on from."""
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    _set_random_states(state["random"])
    return Place(**state["place"])


def seed_everything(seed: int) -> None:
    """Python, numpy and torch (every device)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _random_states() -> dict[str, Any]:
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
    }


def _set_random_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    name, numbers, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, numbers.numpy().astype(np.uint32), position, has_gauss, cached))
