"""What a run tells while it goes: JSON lines for machines, the same for TensorBoard. A resumed run continues the
same curve."""

import json
import os
from pathlib import Path
from typing import Any

from training.disk import whole
from training.events import Events

FILE = "metrics.jsonl"


class Journal:
    """`metrics.jsonl`: one object a line, `kind` step or epoch, with the step it belongs to."""

    def __init__(self, folder: Path, from_step: int) -> None:
        """Keeps the lines up to `from_step`; what a killed run wrote after its last checkpoint is dropped."""
        path = folder / FILE
        kept = [line for line in read(folder) if line["step"] <= from_step]
        with whole(path) as aside:
            aside.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("a", buffering=1)
        self._events = Events(folder, from_step)

    def write(self, kind: str, step: int, **values: Any) -> None:
        """One line; floats as they are."""
        self._file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        self._events.write(kind, step, values)

    def sync(self) -> None:
        """Puts what was written on the disk: a checkpoint must not outlive the lines before it."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
        self._events.close()


def read(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of a run's journal; a torn last line is not one."""
    path = folder / FILE
    if not path.is_file():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines]
