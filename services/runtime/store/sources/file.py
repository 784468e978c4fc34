"""`file:PATH`: a file that is already here. It is read in place, never copied or moved."""

from pathlib import Path

from services.runtime.errors import NotFound
from services.runtime.store.sources.report import Report


def fetch(rest: str, cache: Path, report: Report) -> Path:
    """The file itself; NotFound unless it is one."""
    path = Path(rest).expanduser()
    if not path.is_file():
        raise NotFound("file", rest)
    return path
