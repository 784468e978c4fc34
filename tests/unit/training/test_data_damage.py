"""Whatever bytes a user's file holds: it is read, or refused in words. Never another exception."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.runtime.errors import InvalidInput
from training.data import json_lines, labelled_csv, series_csv, text

LABELLED = b"series,step,label,slice_p,x\n" + b"".join(
    b"%d,%d,%d,p,%d\n" % (n // 3, n, n // 3 % 2, n) for n in range(60)
)
SERIES = b"time,x\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(60))
DATED = b"time,x\n" + b"".join(b"2024-01-%02d,%d\n" % (n, n) for n in range(1, 32))
TEXTS = b"".join(b'{"text": "number %d", "label": "%d", "part": %d}\n' % (n, n % 2, n % 3) for n in range(20))
PLAIN = b"One line.\n\nAnother one.\n\nA third." * 9
READERS: dict[str, tuple[Callable[[Path], Any], str, bytes]] = {
    "series": (lambda p: series_csv.split(series_csv.load(p), 10, 5, 0).told(), "own.csv", SERIES),
    "dates": (lambda p: series_csv.load(p), "own.csv", DATED),
    "labelled": (lambda p: labelled_csv.split(labelled_csv.load(p)).told(), "own.csv", LABELLED),
    "json lines": (lambda p: json_lines.split(json_lines.load(p, labelled=True)), "own.jsonl", TEXTS),
    "table of texts": (lambda p: json_lines.load(p, labelled=False), "own.csv", b"text,label\na,b\nc,d\n"),
    "plain": (lambda p: text.load(p).told(), "own.txt", PLAIN),
}


@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_told(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    read, name, whole = READERS[kind]
    at = data.draw(st.integers(0, len(whole)))
    gone = data.draw(st.integers(0, 12))
    put = data.draw(
        st.binary(max_size=12) | st.sampled_from([b"nan", b"\x00", b'"', b"1e999", b"\xef\xbb\xbf", b","])
    )
    path = tmp_path / name
    path.write_bytes(whole[:at] + put + whole[at + gone :])
    with suppress(InvalidInput):
        read(path)


@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.text(alphabet='a0,"\n\r\t{}[]:-. T\0', max_size=80).map(str.encode))
@example(content=b"time,x\n0001-01-01T00:00+14:00,1\n9999-12-31,2\n")
@example(content=b'{"text": "a", "label": ' + b"9" * 5000 + b"}\n")
@example(content=b"text,label\n" + b"a" * 140_000 + b",b\n")
@example(content=b'{"text": "\\ud800", "label": "b"}\n{"text": "c", "label": "\\udfff"}\n')
def test_any_bytes_are_read_or_refused(tmp_path: Path, kind: str, content: bytes) -> None:
    read, name, whole = READERS[kind]
    path = tmp_path / name
    path.write_bytes(content)
    with suppress(InvalidInput):
        read(path)
    path.write_bytes(whole)
    read(path)
