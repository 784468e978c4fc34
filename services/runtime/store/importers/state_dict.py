"""A torch checkpoint → safetensors, keys unchanged. Reads tensors only: nothing pickled is ever run.

A plain checkpoint goes through `torch.load(weights_only=True)`, a TorchScript archive through
`torch.jit.load`; whatever either refuses is refused here.
"""

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.runtime.errors import InvalidInput
from services.runtime.store.importers.inputs import Files, only
from services.runtime.store.importers.label_file import write_labels

if TYPE_CHECKING:
    import torch

SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".jit")
WRAPPERS = ("state_dict", "model_state_dict", "model")


def run(files: Files, directory: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Write model.safetensors into `directory`; manifest fields.

    `options["select"]` keeps only the keys with that prefix, which stays on.
    """
    tensors = read(only(files, *SUFFIXES))
    prefix = options.get("select", "")
    save({key: value for key, value in tensors.items() if key.startswith(prefix)}, directory)
    return write_labels(files, directory, options)


def save(tensors: Mapping[str, "torch.Tensor"], directory: Path) -> None:
    """Write `directory`/model.safetensors: contiguous copies, since tied tensors share their memory."""
    import torch
    from safetensors.torch import save_file

    if not tensors:
        raise InvalidInput("file", "no tensor is left to import")
    plain = {key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    save_file(plain, directory / "model.safetensors", metadata={"format": "pt"})


def read(path: Path) -> dict[str, "torch.Tensor"]:
    """The state dict of a checkpoint or TorchScript archive. InvalidInput for anything else."""
    import torch

    try:
        content = _torchscript(path) if is_torchscript(path) else _checkpoint(path)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InvalidInput("file", f"{path.name} holds more than tensors, or is damaged: {reason}") from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise InvalidInput("file", f"{path.name} must hold a state dict: names and tensors, nothing else")
    return dict(content)


def is_torchscript(path: Path) -> bool:
    """Whether the file is an archive with TorchScript code inside."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _checkpoint(path: Path) -> Any:
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def _torchscript(path: Path) -> Any:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module: torch.nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        return dict(module.state_dict())
