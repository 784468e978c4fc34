"""Files that are whole or not there, and a disk that takes no more, told as that whichever library met it.

Knows no run.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.runtime.errors import Overloaded, PreconditionFailed
from services.runtime.store.files import fsync, try_hold

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFull(Overloaded):
    """Nothing more can be written; what was whole before still is."""

    reason = "DISK_FULL"


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yields the place to write to. When the block ends well `path` becomes that file, on the disk and at once:
    kill -9 and a full disk leave the old one or the new one."""
    aside = path.with_name(path.name + ".tmp")
    try:
        yield aside
        fsync(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    fsync(path.parent)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps every other process out of `folder`. PreconditionFailed where one is at work; a killed one is not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with try_hold(folder.with_name(f".{folder.name}.lock")) as free:
        if not free:
            raise PreconditionFailed(
                f"another process trains in {folder}: wait for its end or choose another --home"
            )
        yield


@contextmanager
def told_when_full(folder: Path) -> Iterator[None]:
    """Raises DiskFull instead of what torch, safetensors or Python say when `folder` takes no more."""
    try:
        yield
    except Exception as error:
        if not any(is_full(one) for one in chain(error)):
            raise
        raise DiskFull(f"the disk under {folder} is full: make room and run the same command again") from error


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from or during."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_full(error: BaseException) -> bool:
    """By number, or by text: safetensors and torch wrap the error of the disk in their own."""
    if isinstance(error, OSError):
        return error.errno in FULL
    return any(str(error).rstrip(")").endswith(f"os error {number}") for number in FULL)
