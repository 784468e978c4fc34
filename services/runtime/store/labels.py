"""Labels of one model: `labels.toml`, a table name → version, replaced whole. Knows no manifest."""

import tomllib
from pathlib import Path

import tomli_w

from services.runtime.store.files import hold, replace

FILE = "labels.toml"


def read(model_directory: Path) -> dict[str, int]:
    """Label → version; empty where none was ever set."""
    try:
        table = tomllib.loads((model_directory / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {label: int(version) for label, version in table.items()}


def change(model_directory: Path, lock: Path, label: str, version: int | None) -> None:
    """Point `label` at `version`, or drop it (None). Two writers never lose each other's change."""
    with hold(lock):
        table = read(model_directory)
        table.pop(label, None)
        if version is not None:
            table[label] = version
        replace(model_directory / FILE, tomli_w.dumps(dict(sorted(table.items()))).encode())
