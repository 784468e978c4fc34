"""`npm:NAME@VERSION:path` and `deb:NAME[=VERSION]:path`, by npm and apt-get, running no package code."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from services.runtime.errors import InvalidInput, Unavailable
from services.runtime.store.sources.archives import extract_or_drop
from services.runtime.store.sources.report import Report

NPM = ("npm", "pack", "--ignore-scripts", "--silent")
APT = ("apt-get", "download", "--quiet")


def fetch_npm(rest: str, cache: Path, report: Report) -> Path:
    """A file of a package of the npm registry npm is configured for."""
    return _fetch("npm", NPM, rest, cache)


def fetch_deb(rest: str, cache: Path, report: Report) -> Path:
    """A file of a package of the Debian archive apt is configured for."""
    return _fetch("deb", APT, rest, cache)


def _fetch(scheme: str, client: Sequence[str], rest: str, cache: Path) -> Path:
    package, _, member = rest.rpartition(":")
    if not package or not member or package.startswith("-"):
        raise InvalidInput("source", f"'{scheme}:{rest}' must be {scheme}:PACKAGE:path/in/package")
    directory = cache / "archives" / f"{scheme}-{package.replace('/', '-')}"
    archive = _download([*client, package], directory)
    return extract_or_drop(archive, member, cache / f"{directory.name}-{Path(member).name}")


def _download(command: Sequence[str], directory: Path) -> Path:
    """The one archive in `directory`, put there by the client once and only when it is whole."""
    if shutil.which(command[0]) is None:
        raise Unavailable(f"{command[0]} is needed for this source and is not installed")
    if not (directory.is_dir() and list(directory.iterdir())):
        part = directory.with_name(f"{directory.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        _run(command, part)
        part.replace(directory)
    return next(directory.iterdir())


def _run(command: Sequence[str], directory: Path) -> None:
    """Run the client; Unavailable unless it ends well and leaves one archive in `directory`."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    left = sum(path.is_file() for path in directory.iterdir())
    if done.returncode or left != 1:
        reason = (done.stderr or done.stdout).strip().splitlines()
        ended = f"exit code {done.returncode}, {left} archives"
        raise Unavailable(f"{' '.join(command)} failed: {reason[-1] if reason else ended}")
