"""What administrators chose, beside the models: how a choice reaches every worker, replica and restart."""

import json
from pathlib import Path
from typing import NamedTuple

from services.runtime.store.files import hold, replace


class Choice(NamedTuple):
    """The version that was loaded by hand, or None for unloaded, and the newest version at that time."""

    version: int | None
    newest: int


class Desired:
    """`<store>/.admin/<area>.json`: model → choice, replaced whole."""

    def __init__(self, root: Path, area: str) -> None:
        self._path = root / ".admin" / f"{area}.json"

    @classmethod
    def everywhere(cls, root: Path) -> "list[Desired]":
        """Those of every area where somebody ever chose."""
        return [cls(root, path.stem) for path in sorted((root / ".admin").glob("*.json"))]

    def choice(self, model: str) -> Choice | None:
        """None where nobody chose."""
        found = self._read().get(model)
        return Choice(found["version"], found["newest"] or 0) if found else None

    def write(self, model: str, choice: Choice) -> None:
        """Records a choice."""
        with hold(self._path.parent / ".lock"):
            self._write(self._read() | {model: choice._asdict()})

    def forget(self, model: str) -> None:
        """Takes a choice back, if there is one."""
        with hold(self._path.parent / ".lock"):
            table = self._read()
            if table.pop(model, None) is not None:
                self._write(table)

    def _read(self) -> dict[str, dict[str, int | None]]:
        try:
            found: dict[str, dict[str, int | None]] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        return found

    def _write(self, table: dict[str, dict[str, int | None]]) -> None:
        replace(self._path, json.dumps(table, sort_keys=True).encode())
