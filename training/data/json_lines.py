"""A user's own texts, one a row: JSON lines, or CSV with a header. Says of each row it leaves out, why.

JSON lines: {"text": "…", "label": "…", …}; CSV: the columns text, label, …. A label is a text or a whole number.
Every other field that is a text, a whole number or true/false is a slice: a group by which the evaluation is
broken down. For language models `label` may be missing, and `group` names the one slice they report.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from services.runtime.errors import InvalidInput
from training.data import cut, texts
from training.data.files import TextFile, read
from training.data.table import Table, read_table
from training.data.texts import TextRow

TEXT, LABEL = "text", "label"


@dataclass(frozen=True, slots=True)
class Texts:
    """Rows that are fit for use, each text once, in the file's order; what was left out, by reason."""

    rows: tuple[TextRow, ...]
    left_out: dict[str, list[str]]
    file: TextFile

    @property
    def class_names(self) -> tuple[str, ...]:
        """Every label that occurs, sorted."""
        return tuple(sorted({row.label for row in self.rows}))


def load(path: Path, labelled: bool) -> Texts:
    """Every row of `path`. InvalidInput names the line that is no row: no JSON object, no text, no label where
    `labelled` asks for one."""
    if path.suffix.lower() == ".csv":
        table = read_table(path)
        file, found = table.file, _of_table(table)
    else:
        file = read(path)
        found = _of_json(file)
    rows = [_row(fields, file.name, number, labelled) for number, fields in found]
    if not rows:
        raise InvalidInput("data", f"{file.name} holds no row; one JSON object a line is needed")
    left_out: dict[str, list[str]] = {}
    kept = texts.without_copies(rows, left_out)
    if not kept:
        raise InvalidInput("data", f"{file.name} holds no row with a text that says something")
    return Texts(tuple(kept), left_out, file)


def split(found: Texts) -> tuple[list[TextRow], list[TextRow], list[TextRow]]:
    """[train, validation, test], 70/10/20 of each class by the hash of the text."""
    names = found.class_names
    labels = np.array([names.index(row.label) for row in found.rows], np.int64)
    digests = [hashlib.sha256(texts.words(row.text).encode()).digest() for row in found.rows]
    train, validation, test = (
        [found.rows[i] for i in part] for part in cut.by_content(digests, labels, names, "texts", found.left_out)
    )
    return train, validation, test


def _of_table(table: Table) -> list[tuple[int, dict[str, Any]]]:
    table.place(TEXT)
    return [(line.number, dict(zip(table.columns, line.cells, strict=True))) for line in table.lines]


def _of_json(file: TextFile) -> list[tuple[int, dict[str, Any]]]:
    found: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(file.text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            if "\\u" in line:  # an escape can spell half of a character, which is no text
                json.dumps(fields, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise InvalidInput("data", f"{file.name} line {number} is no JSON: {error}") from None
        if not isinstance(fields, dict):
            raise InvalidInput("data", f"{file.name} line {number} is no JSON object but {_kind(fields)}")
        found.append((number, fields))
    return found


def _row(fields: dict[str, Any], name: str, number: int, labelled: bool) -> TextRow:
    text, label = fields.get(TEXT), _word(fields.get(LABEL))
    if not isinstance(text, str):
        raise InvalidInput("data", f"{name} line {number}: text is {_kind(text)}; a string is needed")
    if labelled and not label:
        told = f"label is {_kind(fields.get(LABEL))}; a word or a whole number is needed"
        raise InvalidInput("data", f"{name} line {number}: {told}")
    groups = {key: _word(value) for key, value in fields.items() if key not in (TEXT, LABEL)}
    return TextRow(text, label or "", {key: word for key, word in groups.items() if word}, f"line {number}")


def _word(value: object) -> str | None:
    """The one spelling of a label or a group, on one line, if it can be one."""
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(str(value).split()) if isinstance(value, str | int) else None


def _kind(value: object) -> str:
    if value is None or value == "":
        return "missing"
    kinds = ((str, "a string"), (bool, "true or false"), (int, "a number"), (float, "a number"), (list, "a list"))
    return next((word for kind, word in kinds if isinstance(value, kind)), "an object")
