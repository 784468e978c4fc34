"""Everything a run needs to go on exactly where it was: weights, optimiser, schedule, random states, place.

Of a net that is frozen in part only the rest is kept: the recipe makes the frozen weights anew.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from services.runtime.errors import PreconditionFailed
from training.disk import whole

FILE, FORMAT = "checkpoint.pt", 2


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
    drawn: Sequence[Mapping[str, Any]],
) -> None:
    """Replaces the folder's checkpoint atomically. `drawn`: `random_states` of each process of the run."""
    state = {
        "format": FORMAT,
        "model": trained_state(model),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "place": asdict(place),
        "plan": plan,
        "random": list(drawn),
    }
    with whole(folder / FILE) as aside, aside.open("wb") as file:
        torch.save(state, file)


def load(folder: Path) -> dict[str, Any] | None:
    """The last checkpoint (tensors and plain values only), or None. PreconditionFailed if it cannot be read."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise PreconditionFailed(f"{path} cannot be read: remove it to begin anew") from error
    return state if state.get("format") == FORMAT else None


def restore(
    state: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, schedule: Any, rank: int = 0
) -> Place:
    """Puts a loaded state back; returns the place to go on from. A process that the run did not have before
    draws from the present random state."""
    load_trained(model, state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    if rank < len(state["random"]):
        _set_random_states(state["random"][rank])
    return Place(**state["place"])


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict without the frozen parameters."""
    named = model.named_parameters(remove_duplicate=False)
    frozen = {name for name, value in named if not value.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def load_trained(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Puts a `trained_state` back; frozen parameters stay as they are."""
    model.load_state_dict({**model.state_dict(), **state})


def seed_everything(seed: int) -> None:
    """Python, numpy and torch (every device)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_states() -> dict[str, Any]:
    """Of Python, numpy and torch in this process, as tensors and plain values."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
    }


def _set_random_states(states: Mapping[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    name, numbers, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, numbers.numpy().astype(np.uint32), position, has_gauss, cached))
