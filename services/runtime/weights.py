"""Safetensors file → module, through a rename table. Knows no architecture and refuses pickles by design."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.overrides import TorchFunctionMode

from services.runtime.errors import PreconditionFailed

NO_RENAMES: Mapping[str, str] = {}

_DRAWS = frozenset({"normal_", "uniform_", "kaiming_uniform_"})


class _Undrawn(TorchFunctionMode):
    """Leaves out the draws of first weights: on the meta device they would load torch's compiler, for seconds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if getattr(func, "__name__", "") in _DRAWS:
            return given.get("tensor", args[0] if args else None)
        return func(*args, **given)


@contextmanager
def without_weights() -> Iterator[None]:
    """Nets built in this block have shapes and no weights, until some are loaded."""
    with torch.device("meta"), _Undrawn():
        yield


def load_weights(
    module: nn.Module, path: Path, rename: Mapping[str, str] = NO_RENAMES, ignore: Sequence[str] = ()
) -> None:
    """Put the tensors of `path` into `module`, every one of them and nothing else.

    `rename` maps regex → replacement, applied in order to each key of the file; `ignore` lists regexes
    of file keys that are left out. Tensors are memory-mapped and become the parameters themselves (no copy)
    unless their dtype differs from the module's. The module may be built on the meta device to skip its
    random weights. Raises PreconditionFailed naming the missing, unexpected and misshapen keys.
    """
    wanted = module.state_dict()
    found = _read(path, rename, ignore)
    _check(path, wanted, found)
    module.load_state_dict({key: found[key].to(wanted[key].dtype) for key in wanted}, strict=True, assign=True)


def _read(path: Path, rename: Mapping[str, str], ignore: Sequence[str]) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            kept = [key for key in file.keys() if not any(re.search(skip, key) for skip in ignore)]  # noqa: SIM118
            return {_renamed(key, rename): file.get_tensor(key) for key in kept}
    except (OSError, SafetensorError) as error:
        raise PreconditionFailed(f"{path.name} is not a readable safetensors file: {error}") from error


def _renamed(key: str, rename: Mapping[str, str]) -> str:
    for pattern, replacement in rename.items():
        key = re.sub(pattern, replacement, key)
    return key


def _check(path: Path, wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> None:
    misshapen = [
        f"{key} is {tuple(found[key].shape)}, wanted {tuple(wanted[key].shape)}"
        for key in sorted(wanted.keys() & found.keys())
        if found[key].shape != wanted[key].shape
    ]
    problems = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unexpected": sorted(found.keys() - wanted.keys()),
        "misshapen": misshapen,
    }
    told = "; ".join(f"{what}: {_some(keys)}" for what, keys in problems.items() if keys)
    if told:
        raise PreconditionFailed(f"{path.name} does not fit the architecture; {told}")


def _some(keys: Sequence[str], limit: int = 8) -> str:
    shown = ", ".join(keys[:limit])
    return shown if len(keys) <= limit else f"{shown} and {len(keys) - limit} more"
