"""What a part found, as a table for people and as JSON for later. Measures nothing."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rich.table
from rich.console import Console

from tests.bench.load import Sample

Cell = str | int | float | None


@dataclass(slots=True)
class Table:
    """Rows of cells, and the single measurements behind each. None = does not apply."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)
    samples: list[list[dict[str, float]]] = field(default_factory=list)
    breaks: set[int] = field(default_factory=set)

    def add(self, samples: Sequence[Sample], *cells: Cell) -> None:
        self.rows.append(cells)
        self.samples.append([asdict(one) for one in samples])

    def rule(self) -> None:
        """A line under the last row."""
        self.breaks.add(len(self.rows) - 1)

    def show(self, console: Console) -> None:
        """Prints it; numbers to the right."""
        table = rich.table.Table(title=self.title, title_justify="left", min_width=60)
        for place, name in enumerate(self.columns):
            numeric = not all(isinstance(row[place], str) for row in self.rows) or name == "spread"
            table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
        for place, row in enumerate(self.rows):
            table.add_row(*map(_text, row), end_section=place in self.breaks)
        console.print(table)

    def record(self) -> dict[str, Any]:
        rows = [
            dict(zip(self.columns, row, strict=True)) | {"samples": samples}
            for row, samples in zip(self.rows, self.samples, strict=True)
        ]
        return {"title": self.title, "rows": rows}


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.1f}" if abs(cell) >= 10 else f"{cell:.2f}"


def machine() -> dict[str, Any]:
    """Where and on which source the figures were made, and how busy the machine was before."""
    head = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": head.stdout.strip(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def append(folder: Path, run: Mapping[str, Any]) -> Path:
    """Adds a run to the day's file, a JSON list; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.now(UTC).date()}.json"
    runs = json.loads(path.read_text()) if path.exists() else []
    path.write_text(json.dumps([*runs, run], indent=1) + "\n")
    return path
