"""A CSV file as header and rows of text. Knows no column's meaning."""

import csv
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from services.runtime.errors import InvalidInput
from training.data.files import TextFile, read
from training.data.numbers import finite

SLICE = "slice_"  # begins the name of a column that holds groups


@dataclass(frozen=True, slots=True)
class Line:
    """Cells without outer blanks; `number` is the line of the file where they end."""

    number: int
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Every row has as many cells as there are columns."""

    file: TextFile
    columns: tuple[str, ...]
    lines: tuple[Line, ...]

    def place(self, column: str, field: str = "data") -> int:
        """Where `column` stands. InvalidInput names those that are there."""
        if column not in self.columns:
            known = ", ".join(self.columns)
            raise InvalidInput(field, f"{self.file.name} has no column {column!r}; it has {known}")
        return self.columns.index(column)


def read_table(path: Path) -> Table:
    """A comma-separated UTF-8 file with a header. InvalidInput names the line that breaks the form."""
    file = read(path)
    reader = csv.reader(StringIO(file.text), strict=True)
    try:
        lines = [Line(reader.line_num, tuple(cell.strip() for cell in cells)) for cells in reader if cells]
    except csv.Error as error:
        raise InvalidInput("data", f"{file.name} line {reader.line_num} is no CSV: {error}") from None
    if not lines:
        raise InvalidInput("data", f"{file.name} is empty; a header and rows are needed")
    head, rows = lines[0], tuple(lines[1:])
    _check_header(file, head)
    for line in rows:
        if len(line.cells) != len(head.cells):
            told = f"line {line.number} has {len(line.cells)} cells, the header {len(head.cells)}"
            raise InvalidInput("data", f"{file.name} {told}")
    if not rows:
        raise InvalidInput("data", f"{file.name} has a header but no rows")
    return Table(file, head.cells, rows)


def _check_header(file: TextFile, head: Line) -> None:
    columns = head.cells
    if len(columns) == 1 and (";" in columns[0] or "\t" in columns[0]):
        raise InvalidInput("data", f"{file.name} is not parted by commas: {columns[0]!r}")
    if "" in columns or len(set(columns)) < len(columns):
        told = f"every column needs a name of its own: {', '.join(map(repr, columns))}"
        raise InvalidInput("data", f"{file.name} line {head.number}: {told}")
    if all(finite(cell) is not None for cell in columns):
        raise InvalidInput("data", f"{file.name} has no header: line {head.number} holds numbers alone")
