"""What administrators chose, beside the models: how a choice reaches every worker, replica and restart."""

import json
from pathlib import Path
from typing import NamedTuple

from services.runtime.store.files import hold, replace
from services.runtime.store.manifest_file import DamagedModel


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
        """None where nobody chose. DamagedModel if the file cannot be read."""
        return self._read().get(model)

    def write(self, model: str, choice: Choice) -> None:
        """Records a choice."""
        with hold(self._path.parent / ".lock"):
            self._write(self._read() | {model: choice})

    def forget(self, model: str) -> None:
        """Takes a choice back, if there is one."""
        with hold(self._path.parent / ".lock"):
            table = self._read()
            if table.pop(model, None) is not None:
                self._write(table)

    def _read(self) -> dict[str, Choice]:
        try:
            table = json.loads(self._path.read_text())
            return {model: Choice(told["version"], int(told["newest"])) for model, told in table.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise DamagedModel(f".admin/{self._path.name} is unreadable: {error}; mend it or delete it") from error

    def _write(self, table: dict[str, Choice]) -> None:
        content = {model: choice._asdict() for model, choice in table.items()}
        replace(self._path, json.dumps(content, sort_keys=True).encode())
