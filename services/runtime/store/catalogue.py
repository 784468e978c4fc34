"""`catalogue.toml`: the models the suite knows how to get. Describes recipes; fetches nothing."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from services.runtime.errors import ModelNotFound
from services.runtime.store.importers.table import REVISION
from services.runtime.store.manifest import Frozen

FILE = Path(__file__).with_name("catalogue.toml")


class SourceFile(Frozen):
    """One file to fetch: the name the importer knows it by, its locator, its hash."""

    name: str
    source: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Pictures(Frozen):
    """Photographs for a net of eight bits: what it is calibrated on, and others that it is judged by.

    revision: of how eight bits are made, raised when that changes.
    """

    revision: int = 2
    calibration: tuple[SourceFile, ...] = ()
    held_out: tuple[SourceFile, ...] = ()


class Entry(Frozen):
    """How one model is made: files → importer → manifest fields laid over what the importer found.

    With `choose_runner` the net is exported, both runners are measured and the faster is kept; with `pictures`
    eight bits are tried, too.
    """

    files: tuple[SourceFile, ...]
    importer: str
    options: dict[str, Any] = Field(default={})
    manifest: dict[str, Any] = Field(default={})
    choose_runner: bool = False
    pictures: Pictures = Pictures()

    @property
    def recipe(self) -> str:
        """sha256 of everything that decides the published version but the machine it is made on."""
        unused = set() if self.pictures.calibration else {"pictures"}
        content = {"revision": REVISION, **self.model_dump(mode="json", exclude=unused)}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def load(path: Path = FILE) -> Mapping[str, Entry]:
    """Model name → entry, in the order of the file."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: Entry.model_validate(entry) for name, entry in table.items()}


def find(catalogue: Mapping[str, Entry], name: str) -> Entry:
    """The entry, or ModelNotFound naming what the catalogue has."""
    if name not in catalogue:
        raise ModelNotFound("catalogue entry", name, catalogue)
    return catalogue[name]
