"""Files that survive a crash: hashes, fsync, atomic replacement, locks. Knows no model and no manifest."""

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


def sha256_file(path: Path) -> str:
    """Hex sha256 of the file's bytes. hashlib lets go of the GIL, so threads hash in parallel."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_files(directory: Path, members: Sequence[str]) -> Mapping[str, str]:
    """Hex sha256 of each member, hashed in parallel."""
    with ThreadPoolExecutor(max_workers=min(4, max(1, len(members)))) as pool:
        return dict(zip(members, pool.map(lambda member: sha256_file(directory / member), members), strict=True))


def fsync(path: Path) -> None:
    """Force a file's content, or a directory's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, content: bytes) -> None:
    """Give `path` this content: readers see the old or the new, never a part, also across a crash."""
    aside = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with aside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    fsync(path.parent)


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes and threads; the kernel frees it however the holder ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def try_hold(path: Path) -> Iterator[bool]:
    """As `hold`, without waiting: yields whether the lock was free."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
