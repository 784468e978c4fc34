"""What a run tells while it goes: JSON lines for machines. A resumed run continues the same curve."""

import json
from pathlib import Path
from typing import Any

FILE = "metrics.jsonl"


class Journal:
    """`metrics.jsonl`: one object a line, `kind` step or epoch, with the step it belongs to."""

    def __init__(self, folder: Path, from_step: int) -> None:
        """Keeps the lines up to `from_step`; what a killed run wrote after its last checkpoint is dropped."""
        self._path = folder / FILE
        kept = [line for line in read(folder) if line["step"] <= from_step]
        self._path.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._file = self._path.open("a", buffering=1)

    def write(self, kind: str, step: int, **values: Any) -> None:
        """One line; floats as they are."""
        self._file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")

    def close(self) -> None:
        self._file.close()


def read(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of a run's journal; a torn last line is not one."""
    path = folder / FILE
    if not path.is_file():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines]
