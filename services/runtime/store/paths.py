"""Names and paths inside a store. Refuses whatever could point outside it; reads no file."""

import re
from pathlib import Path, PurePosixPath

from services.runtime.errors import InvalidInput
from services.runtime.store.manifest import NAME_PATTERN

LABEL_PATTERN = r"[a-z][a-z0-9_-]{0,31}"


def is_name(name: str) -> bool:
    """Whether `name` may name a model: one path component, no separator, no leading dot."""
    return re.fullmatch(NAME_PATTERN, name) is not None


def check_name(name: str) -> str:
    """`name` itself; InvalidInput unless it may name a model."""
    if not is_name(name):
        raise InvalidInput("model", f"{name!r} must match {NAME_PATTERN}: lower case, digits, '.', '_', '-'")
    return name


def check_label(label: str) -> str:
    """`label` itself; InvalidInput unless it may label a version (`latest` is taken)."""
    if label == "latest" or not re.fullmatch(LABEL_PATTERN, label):
        raise InvalidInput("label", f"{label!r} must match {LABEL_PATTERN} and not be 'latest'")
    return label


def check_member(member: str) -> PurePosixPath:
    """A relative path inside a directory or an archive; InvalidInput for `..` and absolute ones."""
    path = PurePosixPath(member)
    if not member or path.is_absolute() or ".." in path.parts or "\\" in member or "\0" in member:
        raise InvalidInput("file", f"{member!r} must be a relative path without '..'")
    return path


def real_directory(path: Path) -> bool:
    """Whether `path` is a directory of its own, not a link to one."""
    return path.is_dir() and not path.is_symlink()


def real_file(directory: Path, member: str) -> Path | None:
    """The regular file `member` below `directory`, or None where it is missing or reached through a link."""
    path = directory / check_member(member)
    inside = path.resolve() == directory.resolve() / check_member(member)
    return path if inside and path.is_file() else None
