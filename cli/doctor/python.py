"""The interpreter, and whether what is installed is what the suite pins. Imports none of it."""

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from cli.doctor.around import Around
from cli.doctor.finding import Findings, bad, ok, warn

LEAST = (3, 11)
PROJECT = Path(__file__).parents[2] / "pyproject.toml"
_OWN = re.compile(r"maas\[([^]]+)]")
_PIN = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[^]]*])?==([^;\s]+)")
INSTALL = "`.venv/bin/pip install --editable '.[suite]'`, or `make up`, which does it"


def interpreter(around: Around, version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Findings:
    """Its version, and whether it is an environment of its own."""
    told = ".".join(map(str, version))
    if version[:2] < LEAST:
        yield bad("python", f"{told} at {sys.executable}", "make the environment anew by Python 3.11 or newer")
    else:
        yield ok("python", f"{told} at {sys.executable}")
    if sys.prefix == sys.base_prefix:
        yield warn(
            "environment", f"{sys.prefix} is the machine's own", "`make up` makes .venv; run .venv/bin/maas"
        )
    else:
        yield ok("environment", sys.prefix)


def packages(around: Around, project: Path = PROJECT) -> Findings:
    """Every pin of `project` beside what is installed."""
    wanted = pins(project)
    wrong = [told for name, version in wanted.items() if (told := _differs(name, version))]
    if wrong:
        yield bad("packages", "; ".join(wrong), INSTALL)
    else:
        yield ok("packages", f"{len(wanted)} of {len(wanted)} as pinned")


def pins(project: Path) -> dict[str, str]:
    """Package → version: of the whole suite by the source tree; else of what every server needs."""
    if project.is_file():
        told = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        listed = list(_taken(told["dependencies"], told.get("optional-dependencies", {})))
    else:
        listed = [line for line in metadata.requires("maas") or () if "extra ==" not in line]
    found = (_PIN.match(line) for line in listed)
    return {match[1]: match[2] for match in found if match}


def _taken(always: Sequence[str], extras: Mapping[str, Sequence[str]], wanted: str = "suite") -> Iterator[str]:
    """Requirements of an extra, with those of the extras it is made of."""
    yield from always
    for line in extras.get(wanted, ()):
        inner = _OWN.fullmatch(line)
        if inner is None:
            yield line
        for name in inner[1].split(",") if inner else ():
            yield from _taken((), extras, name.strip())


def _differs(name: str, version: str) -> str:
    try:
        have = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name} {version} is missing"
    # 2.13.0+cpu is that version, as built for CPUs.
    return "" if have.partition("+")[0] == version else f"{name} is {have}, pinned is {version}"
