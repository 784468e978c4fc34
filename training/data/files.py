"""A user's data file as text: whole, UTF-8, hashed. Knows no format."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from services.runtime.errors import InvalidInput

MOST_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class TextFile:
    """The text of a file, line ends as \\n; `sha256` is of its bytes."""

    name: str
    text: str
    sha256: str

    @property
    def source(self) -> str:
        """Its entry in a manifest's provenance."""
        return f"file:{self.name}"


def shown(path: Path) -> str:
    """The last part of a path, `.` included, as text can carry it."""
    return path.absolute().name.encode(errors="replace").decode()


def read(path: Path, most_bytes: int = MOST_BYTES) -> TextFile:
    """InvalidInput for a file that cannot be read, is too large, or is not UTF-8 (naming the line)."""
    name = shown(path)
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= most_bytes else b""
    except OSError as error:
        raise InvalidInput("data", f"{name} cannot be read: {error.strerror}") from None
    if size > most_bytes:
        limit = f"{size:,} bytes; at most {most_bytes:,} are read: take a part of it"
        raise InvalidInput("data", f"{name} has {limit}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InvalidInput("data", f"{name} line {line} is not UTF-8 text: save the file as UTF-8") from None
    return TextFile(name, text.replace("\r\n", "\n").replace("\r", "\n"), hashlib.sha256(data).hexdigest())
