"""Atomic publishing: write aside, fsync, rename. A half version is never visible, whenever the process dies.

Knows directories, locks and the manifest; not where the files came from.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import ValidationError

from services.runtime.errors import InvalidInput
from services.runtime.store import manifest_file
from services.runtime.store.files import fsync, hold, replace, sha256_files, try_hold
from services.runtime.store.manifest import Manifest
from services.runtime.store.paths import check_name, real_directory

CARD, PLOTS = "card.json", "plots"  # beside the model and outside its digest
STAGING = ".staging"
LOCKS = ".locks"


@dataclass
class Draft:
    """A version in the making: put files into `directory`, manifest fields into `fields`.

    `fields` are Manifest's, without name, version and files. `card` holds metrics and figures, which stay
    outside the digest. `published` is set when the `with` block ends well.
    """

    name: str
    directory: Path
    fields: dict[str, Any] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    published: Manifest | None = None

    def manifest(self, version: int, files: Mapping[str, str]) -> Manifest:
        """The manifest to be written; InvalidInput names the first field that breaks a rule."""
        fields = manifest_file.without_none(self.fields)
        try:
            return Manifest.model_validate({**fields, "name": self.name, "version": version, "files": dict(files)})
        except ValidationError as error:
            first = error.errors()[0]
            raise InvalidInput(".".join(map(str, first["loc"])), first["msg"]) from error


def model_lock(root: Path, name: str) -> Path:
    """The lock file that orders writers of one model."""
    return root / LOCKS / f"{name}.lock"


def version_numbers(model_directory: Path) -> list[int]:
    """Published version numbers, ascending; [] where the model is not there."""
    if not real_directory(model_directory):
        return []
    return sorted(int(path.name) for path in numbered(model_directory) if is_version(path))


def numbered(model_directory: Path) -> list[Path]:
    """Everything under a number, published versions and what is left of damaged ones."""
    with suppress(FileNotFoundError):  # the last version may be removed meanwhile
        return [path for path in model_directory.iterdir() if path.name.isascii() and path.name.isdecimal()]
    return []


def last_number(root: Path, name: str) -> int:
    """The highest number that was ever given to a version of the model; the caller holds its lock."""
    given = [int(path.name) for path in numbered(root / name)]
    with suppress(FileNotFoundError, ValueError):
        given.append(int((root / LOCKS / f"{name}.last").read_text()))
    return max(given, default=0)


def remember_number(root: Path, name: str) -> None:
    """Before a version is removed: who serves it, or chose it, must not take a later one for it."""
    with suppress(OSError):  # a full disk must not keep what fills it
        replace(root / LOCKS / f"{name}.last", str(last_number(root, name)).encode())


def is_version(path: Path) -> bool:
    """Whether `path` holds a published version under its canonical number."""
    return path.name == str(int(path.name)) and real_directory(path) and (path / manifest_file.FILE).is_file()


@contextmanager
def publishing(root: Path, name: str) -> Iterator[Draft]:
    """Yield a Draft; publish it as the next version when the block ends, drop it when the block raises."""
    check_name(name)
    with workspace(root) as directory:
        draft = Draft(name, directory)
        yield draft
        draft.published = commit(root, draft)


@contextmanager
def workspace(root: Path) -> Iterator[Path]:
    """A directory on the store's own file system, gone afterwards; a dead owner's is swept by the next."""
    staging = root / STAGING
    directory = staging / uuid4().hex
    lock = directory.with_suffix(".lock")
    with ExitStack() as owned:
        with hold(root / LOCKS / "staging.lock"):
            staging.mkdir(exist_ok=True)
            sweep(staging)
            owned.enter_context(hold(lock))
        owned.callback(lock.unlink, missing_ok=True)
        owned.callback(shutil.rmtree, directory, ignore_errors=True)
        directory.mkdir()
        yield directory


def sweep(staging: Path) -> None:
    """Remove what dead owners left: their lock is free. The caller holds the staging lock."""
    for lock in staging.glob("*.lock"):
        with try_hold(lock) as dead:
            if dead:
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink(missing_ok=True)


def commit(root: Path, draft: Draft) -> Manifest:
    """Make the draft durable, then visible under a number that no version ever had by one rename."""
    members = seal(draft.directory)
    files = sha256_files(draft.directory, members)
    draft.manifest(1, files)
    replace(draft.directory / CARD, json.dumps(draft.card, indent=2, sort_keys=True).encode())
    with hold(model_lock(root, draft.name)):
        model_directory = root / draft.name
        model_directory.mkdir(exist_ok=True)
        manifest = draft.manifest(last_number(root, draft.name) + 1, files)
        replace(draft.directory / manifest_file.FILE, manifest_file.dumps(manifest))
        draft.directory.rename(model_directory / str(manifest.version))
        fsync(model_directory)
        fsync(root)
    return manifest


def seal(directory: Path) -> list[str]:
    """Make every file readable and durable; sorted names of those the digest covers. Refuses links and devices."""
    members = []
    for path in sorted(directory.rglob("*")):
        member = path.relative_to(directory).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InvalidInput("file", f"{member!r} must be a regular file: links and devices are not published")
        path.chmod(0o755 if path.is_dir() else 0o644)
        fsync(path)
        if path.is_file() and member != CARD and not member.startswith(PLOTS + "/"):
            members.append(member)
    return members
