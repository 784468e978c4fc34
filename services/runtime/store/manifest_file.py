"""`model.toml` on disk: reads and writes a Manifest. Knows one directory, not the store around it."""

import tomllib
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest

FILE = "model.toml"
AGAIN = "get it again: maas models pull NAME --force, or publish it"


class DamagedModel(PreconditionFailed):
    """A published version is not what it was when published: unreadable, incomplete or changed."""

    reason = "MODEL_DAMAGED"


def without_none(value: Any) -> Any:
    """`value` with every None dropped from its tables: TOML has no null, absence says the same."""
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_none(item) for item in value]
    return value


def dumps(manifest: Manifest) -> bytes:
    """The manifest as TOML; reading it back gives an equal digest."""
    return tomli_w.dumps(without_none(manifest.model_dump(mode="json", exclude_defaults=True))).encode()


def read(directory: Path) -> Manifest:
    """The manifest of one version directory; DamagedModel names the file and the fault."""
    path = directory / FILE
    try:
        return Manifest.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        where = f"{directory.parent.name}/{directory.name}/{FILE}"
        raise DamagedModel(f"{where} is unreadable: {error}; {AGAIN}") from error
