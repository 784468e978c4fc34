"""A numpy .npz of plain arrays → safetensors, names unchanged. Arrays of objects (pickles) are refused."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from services.runtime.errors import InvalidInput
from services.runtime.store.importers.inputs import Files, only
from services.runtime.store.importers.label_file import write_labels


def run(files: Files, directory: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Write model.safetensors into `directory`; manifest fields."""
    path = only(files, ".npz")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: np.ascontiguousarray(archive[name]) for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInput("file", f"{path.name} is not an .npz of plain arrays: {error}") from error
    save_file(arrays, directory / "model.safetensors")
    return write_labels(files, directory, options)
