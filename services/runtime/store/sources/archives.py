"""One member out of a wheel, sdist, npm or deb archive. Refuses members that are links or lead elsewhere."""

import gzip
import lzma
import shutil
import subprocess
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO

from services.runtime.errors import InvalidInput, NotFound
from services.runtime.store.paths import check_member

BROKEN = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError)

WHOLE = "."


def extract(archive: Path, member: str, target: Path) -> Path:
    """Write `member` of `archive` to `target`.

    The folder that holds a whole tar archive (`name-1.0/`, `package/`) is left out of member names. Member `.` is
    the archive itself, for data sets of thousands of small files.
    """
    check_member(member)
    try:
        _extract(archive, member, target)
    except BROKEN as error:
        raise InvalidInput("source", f"{archive.name} is a damaged archive: {error}") from error
    return target


def extract_or_drop(archive: Path, member: str, target: Path) -> Path:
    """As `extract`; an archive it cannot read is deleted, so that the next try downloads it anew."""
    try:
        return extract(archive, member, target)
    except InvalidInput:
        archive.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
        raise


def _extract(archive: Path, member: str, target: Path) -> None:
    if member == WHOLE:
        shutil.copyfile(archive, target)
    elif archive.suffix in (".whl", ".zip"):
        _from_zip(archive, member, target)
    elif archive.suffix == ".deb":
        _from_deb(archive, member, target)
    elif archive.name.endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")):
        with tarfile.open(archive) as tar:
            _from_tar(tar, member, target, skip=1, name=archive.name)
    else:
        raise InvalidInput("source", f"{archive.name} is no archive this reads: .whl, .zip, .tar.*, .tgz, .deb")


def _from_zip(archive: Path, member: str, target: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        if member not in content.namelist():
            raise NotFound(f"file in {archive.name}", member, _near(content.namelist(), member))
        with content.open(member) as file:
            _write(file, target)


def _from_deb(archive: Path, member: str, target: Path) -> None:
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    # It complains of who leaves in the middle; of a damaged archive, whose pipe is short, we do.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as reader:
        assert reader.stdout is not None
        with tarfile.open(fileobj=reader.stdout, mode="r|") as tar:
            _from_tar(tar, member, target, skip=0, name=archive.name)


def _from_tar(tar: tarfile.TarFile, member: str, target: Path, *, skip: int, name: str) -> None:
    seen = []
    for entry in tar:
        path = "/".join(part for part in entry.name.split("/") if part != ".")
        path = path.split("/", skip)[-1]
        seen.append(path)
        if path == member:
            check_member(entry.name)
            file = tar.extractfile(entry) if entry.isreg() else None
            if file is None:
                raise InvalidInput("source", f"{member!r} in {name} is not a regular file")
            return _write(file, target)
    raise NotFound(f"file in {name}", member, _near(seen, member))


def _write(file: IO[bytes], target: Path) -> None:
    with target.open("wb") as out:
        shutil.copyfileobj(file, out, 1 << 20)


def _near(names: list[str], member: str) -> list[str]:
    """Up to ten member names that end like the one asked for, or the first ten."""
    suffix = Path(member).suffix
    return ([name for name in names if suffix and name.endswith(suffix)] or names)[:10]
