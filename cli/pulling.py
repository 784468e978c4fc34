"""Runs pulls and imports with progress on the terminal. Decides nothing about models."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.prepare import choose_runner
from cli.render import downloads, err
from services.runtime.store import catalogue
from services.runtime.store.importers.inputs import Files, in_directory
from services.runtime.store.importers.table import IMPORTERS, importer_for
from services.runtime.store.manifest import Manifest
from services.runtime.store.pull import Puller, laid_over
from services.runtime.store.sources import hf
from services.runtime.store.sources.fetcher import Fetcher
from services.runtime.store.store import ModelStore
from training.disk import told_when_full


def pull(store: ModelStore, cache: Path, names: Sequence[str], *, force: bool = False) -> list[Manifest]:
    """Every named catalogue entry, in the store afterwards."""
    entries = {name: catalogue.find(catalogue.load(), name) for name in names}
    quiet = Puller(store, Fetcher(cache), choose_runner)
    have = {name: None if force else quiet.present(name, entry) for name, entry in entries.items()}
    if all(have.values()):
        return [manifest for manifest in have.values() if manifest is not None]
    with downloads() as report:
        puller = Puller(store, Fetcher(cache, report), choose_runner, say)
        return [puller.pull(name, entry, force=force) for name, entry in entries.items()]


def say(name: str, stage: str) -> None:
    """One line a stage."""
    err().print(f"[dim]{name}: {stage}[/dim]")


def import_model(store: ModelStore, cache: Path, source: str, name: str, told: Mapping[str, Any]) -> Manifest:
    """Publish what lies at `source`; `told` holds manifest fields and an `options` table for the importer.

    Raises DiskFull, and publishes nothing, where the store takes no more.
    """
    files = find_files(source, cache)
    manifest = {key: value for key, value in told.items() if key != "options"}
    with told_when_full(store.root), store.publish(name) as draft:
        found = IMPORTERS[importer_for(files)](files, draft.directory, told.get("options", {}))
        draft.fields.update(laid_over(found, manifest))
        draft.fields.setdefault("provenance", {"source": source})
    assert draft.published is not None
    return draft.published


def find_files(source: str, cache: Path) -> Files:
    """The files at a path, in a directory or in a hub repository."""
    if source.startswith("hf:"):
        return in_directory(hf.fetch_directory(source.removeprefix("hf:"), cache))
    path = Path(source.removeprefix("file:")).expanduser()
    return in_directory(path) if path.is_dir() else {path.name: path}
