"""Labels of one model: `labels.toml`, a table name → version, replaced whole. Reads no manifest."""

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import tomli_w

from services.runtime.store.files import hold, replace
from services.runtime.store.manifest_file import DamagedModel

FILE = "labels.toml"
# What calls that name no version are answered by, where a model has it; and what a share of them may try.
STABLE, CANARY = "stable", "canary"


def read(model_directory: Path) -> dict[str, int]:
    """Label → version; empty where none was ever set. DamagedModel if the file cannot be read."""
    try:
        return numbers(tomllib.loads((model_directory / FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        where = f"{model_directory.name}/{FILE}"
        raise DamagedModel(f"{where} is unreadable: {error}; mend it, or delete it and label again") from error


def numbers(table: Mapping[str, object]) -> dict[str, int]:
    """The table itself; ValueError unless every label names a number."""
    found = {label: version for label, version in table.items() if type(version) is int}
    if len(found) < len(table):
        raise ValueError(f"{', '.join(sorted(table.keys() - found))} must be a version number")
    return found


def change(model_directory: Path, lock: Path, label: str, version: int | None) -> None:
    """Point `label` at `version`, or drop it (None). Two writers never lose each other's change."""
    with hold(lock):
        table = read(model_directory)
        table.pop(label, None)
        if version is not None:
            table[label] = version
        replace(model_directory / FILE, tomli_w.dumps(dict(sorted(table.items()))).encode())


def drop_empty(model_directory: Path) -> None:
    """Take away the directory of a model that has nothing left but its labels."""
    if all(path.name == FILE for path in model_directory.iterdir()):
        (model_directory / FILE).unlink(missing_ok=True)
        with suppress(OSError):
            model_directory.rmdir()
