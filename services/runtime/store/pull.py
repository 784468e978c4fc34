"""Catalogue entry → published version: fetch, import, prepare, publish. Leaves alone what is there."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from services.runtime.store.catalogue import Entry, SourceFile
from services.runtime.store.importers.inputs import Files
from services.runtime.store.importers.table import IMPORTERS
from services.runtime.store.manifest import Manifest
from services.runtime.store.manifest_file import DamagedModel
from services.runtime.store.publish import Draft
from services.runtime.store.sources.fetcher import Fetcher
from services.runtime.store.store import ModelStore

Prepare = Callable[[Draft, "Photographs"], None]
Say = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Photographs:
    """Fetched: what a net of eight bits is calibrated on, and what it is judged by; empty if none is wanted."""

    calibration: Files = field(default_factory=dict)
    held_out: Files = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Puller:
    """Makes store versions out of catalogue entries.

    `prepare` may look at a filled draft and at its photographs, and change it (choose its runner); `say` hears
    (model, stage).
    """

    store: ModelStore
    fetcher: Fetcher
    prepare: Prepare
    say: Say = lambda name, stage: None

    def pull(self, name: str, entry: Entry, *, force: bool = False) -> Manifest:
        """The version this recipe made, made now unless the store has it. `force` makes it anew."""
        have = None if force else self.present(name, entry)
        if have is not None:
            return have
        files = self._fetched(entry.files)
        pictures = entry.pictures
        photographs = Photographs(self._fetched(pictures.calibration), self._fetched(pictures.held_out))
        manifest = self._publish(name, entry, files, photographs)
        self.fetcher.forget_archives()
        return manifest

    def present(self, name: str, entry: Entry) -> Manifest | None:
        """The newest version that this very recipe made, if any."""
        for version in reversed(self.store.versions(name)):
            with suppress(DamagedModel):
                manifest = self.store.manifest(name, version)
                if manifest.provenance.notes == note(entry):
                    return manifest
        return None

    def _fetched(self, wanted: Sequence[SourceFile]) -> Files:
        return {file.name: self.fetcher.fetch(file.source, file.sha256) for file in wanted}

    def _publish(self, name: str, entry: Entry, files: Files, photographs: Photographs) -> Manifest:
        with self.store.publish(name) as draft:
            self.say(name, "importing")
            found = IMPORTERS[entry.importer](files, draft.directory, entry.options)
            draft.fields.update(laid_over(found, entry.manifest), provenance=provenance(entry))
            if entry.choose_runner:
                precision = " and precision, which takes a minute" if photographs.calibration else ""
                self.say(name, f"choosing its runner{precision}")
                self.prepare(draft, photographs)
            self.say(name, "publishing")
        assert draft.published is not None
        return draft.published


def laid_over(found: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """`told` over `found`; tables are merged, everything else replaced."""
    merged = dict(found)
    for key, value in told.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = laid_over(merged[key], value) if both else value
    return merged


def provenance(entry: Entry) -> dict[str, str]:
    """Where the first file, the weights or the tokenizer, came from, and by which recipe."""
    first = entry.files[0]
    return {"source": first.source, "sha256": first.sha256, "notes": note(entry)}


def note(entry: Entry) -> str:
    """The line by which a later pull knows its own work."""
    return f"importer {entry.importer}, recipe {entry.recipe}"
