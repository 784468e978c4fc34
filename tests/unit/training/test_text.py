"""Text for language models: what is kept, what is dropped and said, how it is split; the packed Bible."""

import struct
from pathlib import Path

import pytest

from services.runtime.errors import InvalidInput
from training import byte_pairs
from training.data import kjv, text
from training.data.text import Document
from training.language import Origin

PARAGRAPHS = [f"Paragraph {n} tells of {n * n} sheep.\nIts second line is number {n}." for n in range(60)]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_users_file_becomes_disjoint_documents_and_a_report(tmp_path: Path) -> None:
    whole = "\r\n\r\n".join([*PARAGRAPHS, PARAGRAPHS[0], "a\x00b\x07c"])
    corpus = text.load(write(tmp_path / "mine.txt", whole))
    parts = [{document.text for document in part} for part in (corpus.train, corpus.validation, corpus.test)]
    assert set.union(*parts) == {*PARAGRAPHS, "abc"}
    assert sum(map(len, parts)) == 61 and [len(part) for part in parts[1:]] == [3, 3]
    assert corpus.dropped == {
        "lines' control characters": ["line 184"],
        "repeated documents": ["1 × 'Paragraph 0 tells of 0 sheep.\\nIts second'"],
        "lines equal to a held-out one": [],
    }
    assert corpus.source == "file:mine.txt"
    assert len(corpus.sha256) == 64 and text.load(tmp_path / "mine.txt") == corpus


def test_no_held_out_line_is_trained_on() -> None:
    documents = [Document(f"line {n}\nthe same line everywhere") for n in range(40)] + [Document("line 1")]
    corpus = text.split(documents, "x")
    trained = {line for document in corpus.train for line in document.text.split("\n")}
    held_out = {line for part in (corpus.validation, corpus.test) for d in part for line in d.text.split("\n")}
    assert trained and not trained & held_out
    assert len(corpus.dropped["lines equal to a held-out one"]) == len(corpus.train) - 1  # all but "line 1"


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"good\xff\xfe", "line 1 is not UTF-8 text"), (b"one\ntwo\n", "2 documents; 3 are"), (b"", "0 documents")],
)
def test_unusable_files_are_named(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        text.load(write(tmp_path / "bad.txt", content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nowhere\.txt cannot be read"):
        text.load(tmp_path / "nowhere.txt")


def test_learnt_pairs_are_the_same_each_time_and_lose_nothing() -> None:
    data = byte_pairs.learn(PARAGRAPHS, 300)
    assert data == byte_pairs.learn(PARAGRAPHS, 300)
    words = Origin("", {}, data, byte_pairs.spec(64)).words()
    assert words.vocab_size == 300 and words.eos_id == 0
    strange = "Sheep, żółw 日本 🙂\n\t" + byte_pairs.END
    ids = words.encode_ids(strange, parse_special=False)
    assert words.decode(ids) == strange and 0 not in ids
    assert len(words.encode_ids(PARAGRAPHS[3])) < len(PARAGRAPHS[3]) / 2


def packed(plain: bytes) -> bytes:
    """What Unix `compress` writes after its header: the reverse of `kjv.unpack(kjv.codes(…))`."""
    table = {bytes((byte,)): byte for byte in range(256)}
    codes, now = [], b""
    for byte in plain:
        if now + bytes((byte,)) in table:
            now += bytes((byte,))
            continue
        codes.append(table[now])
        table[now + bytes((byte,))] = len(table) + 1
        now = bytes((byte,))
    codes.append(table[now])
    out, bits, at = bytearray(), 9, 0
    while at < len(codes):
        run = codes[at : at + 8]  # widths change after 2^bits − 256 codes: whole groups
        group = sum(code << place * bits for place, code in enumerate(run))
        out += group.to_bytes((len(run) * bits + 7) // 8, "little")
        at += len(run)
        bits += bits < 16 and at + 256 >= 1 << bits
    return bytes(out)


def container(windows: list[bytes], size: int) -> bytes:
    bodies = [packed(window) for window in windows]
    table = kjv.HEADER + 8 + 4 * (len(bodies) + 1)
    offsets = [table + sum(map(len, bodies[:n])) for n in range(len(bodies) + 1)]
    head = kjv.MAGIC.ljust(kjv.HEADER, b"\0") + struct.pack(f">{len(offsets) + 2}I", size, len(bodies), *offsets)
    return head + b"".join(bodies)


def test_compressed_windows_are_read_back(tmp_path: Path) -> None:
    plain = b"".join(b"%d sheep and %d goats; aaaaaaaa" % (n, n * n) for n in range(900))
    windows = [plain[at : at + 16384] for at in range(0, len(plain), 16384)]
    path = write(tmp_path / "bible.data", container(windows, 16384))
    assert kjv.decompress(path) == plain
    with pytest.raises(InvalidInput, match="cut or damaged"):
        kjv.decompress(write(path, path.read_bytes()[:-300]))
    with pytest.raises(InvalidInput, match="no compressed text"):
        kjv.decompress(write(path, b"PK\3\4"))


def test_verses_become_chapters_of_a_testament() -> None:
    lines = "A title.\nMal4:6 Last.\n1Ki1:1 Now.\n1Ki1:2 Then.\n1Ki2:1 Later.\nMat1:1 The book.\nRev22:21 Amen."
    found = list(kjv.chapters(lines))
    assert [d.text for d in found] == ["Last.", "Now.\nThen.", "Later.", "The book.", "Amen."]
    assert [d.group for d in found] == ["old", "old", "old", "new", "new"]
