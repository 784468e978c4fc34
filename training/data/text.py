"""Plain text as documents, their splits and what was left out. Knows no tokens and no model."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from services.runtime.errors import InvalidInput
from training.data import json_lines
from training.data.cut import LeftOut, fingerprint, told
from training.data.files import TextFile, read
from training.data.texts import slices

HELD_OUT_SHARE, SPLIT_SEED = 0.05, 20_260_102
FEWEST_DOCUMENTS = 3
ENOUGH_PARAGRAPHS, SHOWN = 20, 40
ROWS = (".jsonl", ".csv")


@dataclass(frozen=True, slots=True)
class Document:
    """A text that is read from its start to its end; `group` is its row's name in the slice report."""

    text: str
    group: str = ""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Disjoint documents for fitting, for choosing and for the one final look; `sha256` is of what was read."""

    train: tuple[Document, ...]
    validation: tuple[Document, ...]
    test: tuple[Document, ...]
    source: str
    sha256: str = ""
    dropped: LeftOut = field(default_factory=dict)

    def told(self) -> str:
        """Documents of each part, and how much was left out for which reason."""
        return told(len(self.train), len(self.validation), len(self.test), self.dropped, "documents")

    def parts(self) -> dict[str, Any]:
        """How many documents each part has, and their hash."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: fingerprint(d.text.encode() for d in documents) for name, documents in parts.items()}


def load(path: Path) -> Corpus:
    """A user's UTF-8 file: JSON lines ({"text": …, "group": …}, a document each) if it is named .jsonl or .csv,
    else plain: paragraphs (blank lines between them), or lines where there are few paragraphs.

    Raises InvalidInput for a file that is missing, not text, or too short to hold anything out.
    """
    found, left_out, file = documents(path)
    corpus = split(found, file.source)
    return replace(corpus, sha256=file.sha256, dropped={**left_out, **corpus.dropped})


def documents(path: Path) -> tuple[list[Document], dict[str, list[str]], TextFile]:
    """Every document of such a file, each once, and what was left out for which reason."""
    return _of_rows(path) if path.suffix.lower() in ROWS else _of_plain(path)


def _of_rows(path: Path) -> tuple[list[Document], dict[str, list[str]], TextFile]:
    found = json_lines.load(path, labelled=False)
    groups = slices(found.rows).get("group", [""] * len(found.rows))
    texts = ("\n".join(clean(row.text.replace("\r\n", "\n"))[0]) for row in found.rows)
    return [Document(text, group) for text, group in zip(texts, groups, strict=True)], found.left_out, found.file


def _of_plain(path: Path) -> tuple[list[Document], dict[str, list[str]], TextFile]:
    file = read(path)
    lines, controls = clean(file.text)
    paragraphs = [part.strip() for part in "\n".join(lines).split("\n\n")]
    found = Counter(text for text in (paragraphs if len(paragraphs) >= ENOUGH_PARAGRAPHS else lines) if text)
    repeated = [f"{count - 1} × {text[:SHOWN]!r}" for text, count in found.items() if count > 1]
    left_out = {"lines' control characters": controls, "repeated documents": repeated}
    return [Document(text) for text in found], left_out, file


def clean(text: str) -> tuple[list[str], list[str]]:
    """Lines without control characters (tabs stay) and trailing blanks, and the lines that lost one."""
    lines = text.split("\n")
    kept = ["".join(char for char in line if char == "\t" or char >= " ") for line in lines]
    changed = [f"line {i}" for i, pair in enumerate(zip(lines, kept, strict=True), 1) if pair[0] != pair[1]]
    return [line.rstrip() for line in kept], changed


def split(documents: Sequence[Document], source: str) -> Corpus:
    """Validation and test documents by a fixed permutation; training lines equal to a held-out one are dropped."""
    if len(documents) < FEWEST_DOCUMENTS:
        raise InvalidInput(
            "data", f"{source} has {len(documents)} documents; {FEWEST_DOCUMENTS} are the least to split"
        )
    order = np.random.default_rng(SPLIT_SEED).permutation(len(documents))
    share = max(1, round(len(documents) * HELD_OUT_SHARE))
    test, validation = ([documents[i] for i in part] for part in (order[:share], order[share : 2 * share]))
    fitting = [documents[i] for i in np.sort(order[2 * share :])]
    train, leaked = without_leaks(fitting, [*validation, *test])
    dropped = {"lines equal to a held-out one": leaked}
    return Corpus(tuple(train), tuple(validation), tuple(test), source, dropped=dropped)


def without_leaks(train: Iterable[Document], held_out: Iterable[Document]) -> tuple[list[Document], list[str]]:
    """Training documents without the lines that a held-out document has, and how the lines that went begin."""
    seen = {line for document in held_out for line in document.text.split("\n")} - {""}
    kept: list[Document] = []
    leaked: list[str] = []
    for document in train:
        lines = document.text.split("\n")
        own = [line for line in lines if line not in seen]
        leaked += [repr(line[:SHOWN]) for line in lines if line in seen]
        if any(own):
            kept.append(Document("\n".join(own), document.group))
    return kept, leaked
