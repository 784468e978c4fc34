"""Which distributions `pip install '.[EXTRA]'` brings, out of pyproject.toml and what is installed here."""

import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import Requirement

from tests.deploy.dockerfile import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def name_of(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def named(extra: str) -> Iterator[Requirement]:
    """The requirements of an extra, those of the extras that it names among them."""
    for requirement in map(Requirement, PROJECT["optional-dependencies"][extra]):
        if requirement.name == "maas":
            for other in sorted(requirement.extras):
                yield from named(other)
        else:
            yield requirement


def closure(extra: str) -> set[str]:
    """Normal names of everything that comes along."""
    found: set[str] = set()
    _follow([*map(Requirement, PROJECT["dependencies"]), *named(extra)], found)
    return found


def _follow(requirements: Iterable[Requirement], found: set[str]) -> None:
    for requirement in requirements:
        name = name_of(requirement.name)
        wanted = [{"extra": extra} for extra in ("", *requirement.extras)]
        if name in found:
            continue
        found.add(name)
        try:
            below = map(Requirement, requires(name) or ())
        except PackageNotFoundError:
            continue
        _follow((r for r in below if r.marker is None or any(map(r.marker.evaluate, wanted))), found)
