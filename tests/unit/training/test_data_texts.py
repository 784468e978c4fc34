"""Texts out of JSON lines and CSV: what is read, what is left out and named, how it is cut, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.runtime.errors import InvalidInput
from training.data import json_lines, text
from training.data.texts import slices


def write(folder: Path, content: str | bytes, name: str = "own.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


ROWS = (
    {"text": "Hello there", "label": "kind", "language": "en", "year": 2024, "long": False, "score": 0.5},
    {"text": "hello   THERE", "label": "kind"},
    {"text": "Hello there ", "label": "rude"},
    {"text": " \n", "label": "rude"},
    {"text": "Go away", "label": " very\u2028rude\n", "language": "en-GB", "nested": {"a": 1}},
)


def test_rows_are_read_and_what_is_left_out_is_named(tmp_path: Path) -> None:
    found = json_lines.load(write(tmp_path, lines(*ROWS) + "\n"), labelled=True)
    assert [(row.text, row.label, row.where) for row in found.rows] == [
        ("Hello there", "kind", "line 1"),
        ("Go away", "very rude", "line 5"),
    ]
    assert slices(found.rows) == {
        "language": ["en", "en-GB"],
        "year": ["2024", "unknown"],
        "long": ["false", "unknown"],
    }
    assert found.class_names == ("kind", "very rude")
    assert found.left_out == {
        "copy of an earlier row": ["line 2 = line 1"],
        "copy of a row of another class": ["line 3 = line 1"],
        "without text": ["line 4"],
    }


def test_a_table_says_the_same(tmp_path: Path) -> None:
    path = write(tmp_path, 'text,label,language\n"Hello, there",kind,en\nGo away,rude,\n', "own.csv")
    found = json_lines.load(path, labelled=True)
    assert [(row.text, row.label, row.groups) for row in found.rows] == [
        ("Hello, there", "kind", {"language": "en"}),
        ("Go away", "rude", {}),
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "own.jsonl holds no row"),
        (b'{"text": "a", "label": "b"}\n{"text": \n', "line 2 is no JSON"),
        (b'["a"]\n', "line 1 is no JSON object but a list"),
        (b'{"label": "b"}\n', "line 1: text is missing"),
        (b'{"text": 3, "label": "b"}\n', "line 1: text is a number; a string"),
        (b'{"text": "a"}\n', "line 1: label is missing; a word or a whole number"),
        (b'{"text": "a", "label": 0.5}\n', "line 1: label is a number"),
        (b'{"text": "a", "label": ["b"]}\n', "line 1: label is a list"),
        (b'{"text": " ", "label": "b"}\n', "no row with a text that says something"),
        (b'{"text": "a", "label": "b"}\n\n{"text": "\xe9", "label": "b"}\n', "line 3 is not UTF-8 text"),
        (b"[" * 100_000, "line 1 is no JSON"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        json_lines.load(write(tmp_path, content), labelled=True)


def labelled(count: int, label: str) -> list[dict[str, Any]]:
    return [{"text": f"{label} number {n}", "label": label} for n in range(count)]


def test_the_cut_of_texts_knows_no_order(tmp_path: Path) -> None:
    rows = labelled(20, "a") + labelled(10, "b")
    one, two = (
        json_lines.split(json_lines.load(write(tmp_path, lines(*order)), labelled=True))
        for order in (rows, rows[::-1])
    )
    assert [len(part) for part in one] == [21, 3, 6]
    for here, there in zip(one, two, strict=True):
        assert {row.text for row in here} == {row.text for row in there}
    assert len({row.text for part in one for row in part}) == 30


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (labelled(9, "a"), r"1 class \(a\); two are needed"),
        (labelled(9, "a") + labelled(4, "b"), "class b has 4 texts of use; at least 5"),
    ],
)
def test_too_few_classes_or_rows_are_named(tmp_path: Path, rows: list[dict[str, Any]], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        json_lines.split(json_lines.load(write(tmp_path, lines(*rows)), labelled=True))


def test_documents_of_a_language_model_keep_their_group(tmp_path: Path) -> None:
    rows = [{"text": f"Line {n}\r\nof \x07bells", "group": "odd" if n % 2 else "even"} for n in range(40)]
    corpus = text.load(write(tmp_path, lines(*rows, rows[0], {"text": "alone"})))
    documents = [*corpus.train, *corpus.validation, *corpus.test]
    assert {document.group for document in documents} == {"odd", "even", "unknown"}
    assert "Line 3\nof bells" in {document.text for document in documents} or corpus.dropped
    assert not any("\x07" in document.text or "\r" in document.text for document in documents)
    assert corpus.dropped["copy of an earlier row"] == ["line 41 = line 1"]
    assert len(corpus.sha256) == 64 and corpus.source == "file:own.jsonl"
