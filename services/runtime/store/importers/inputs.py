"""What an importer is given: file names and where they lie. Knows no format."""

from collections.abc import Mapping
from pathlib import Path

from services.runtime.errors import InvalidInput

Files = Mapping[str, Path]


def only(files: Files, *suffixes: str) -> Path:
    """The one file whose name ends so; InvalidInput unless there is exactly one."""
    found = [path for name, path in files.items() if name.endswith(suffixes)]
    if len(found) != 1:
        raise InvalidInput("file", f"exactly one {' or '.join(suffixes)} file is needed, got {sorted(files)}")
    return found[0]


def in_directory(directory: Path) -> Files:
    """The regular files of a directory, by name."""
    return {path.name: path for path in sorted(directory.iterdir()) if path.is_file()}
