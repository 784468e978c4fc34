"""Pulling: made once by its recipe, made anew when the recipe changes, nothing left when it fails."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.runtime.errors import InvalidInput, ModelNotFound
from services.runtime.store import catalogue
from services.runtime.store.catalogue import Entry, Pictures, SourceFile
from services.runtime.store.importers.table import REVISION
from services.runtime.store.publish import Draft
from services.runtime.store.pull import Photographs, Puller
from services.runtime.store.sources.fetcher import Fetcher, SourceChanged
from services.runtime.store.store import ModelStore


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    path = tmp_path / "m.npz"
    np.savez(path, w=np.ones(4, np.float32))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    files = (SourceFile(name="m.npz", source=f"file:{path}", sha256=digest),)
    return Entry(files=files, importer="npz", manifest={"tasks": ["vision.classify"], "config": {"n": 1}})


class Setup:
    def __init__(self, root: Path) -> None:
        self.store, self.prepared, self.said = ModelStore(root / "store"), [], []
        self.puller = Puller(
            self.store, Fetcher(root / "cache"), self.prepare, lambda *told: self.said.append(told)
        )

    def prepare(self, draft: Draft, photographs: Photographs) -> None:
        self.prepared.append(draft.name)
        draft.fields["runner"] = "onnxruntime"
        draft.card["why"] = "faster"


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def test_the_same_recipe_is_made_once(setup: Setup, entry: Entry) -> None:
    first = setup.puller.pull("net", entry)
    said = len(setup.said)
    assert setup.puller.pull("net", entry) == first and len(setup.said) == said
    assert first.config == {"n": 1} and first.provenance.sha256 == entry.files[0].sha256
    assert setup.puller.pull("net", entry, force=True).version == 2


def test_a_version_with_a_damaged_manifest_is_made_again(setup: Setup, entry: Entry) -> None:
    setup.puller.pull("net", entry)
    (setup.store.root / "net" / "1" / "model.toml").write_text("not toml")
    assert setup.puller.pull("net", entry).version == 2


def test_another_recipe_makes_another_version(setup: Setup, entry: Entry) -> None:
    setup.puller.pull("net", entry)
    changed = entry.model_copy(update={"manifest": {**entry.manifest, "config": {"n": 2}}})
    assert setup.puller.pull("net", changed).version == 2
    assert setup.puller.pull("net", entry).version == 1


def test_the_runner_is_chosen_only_where_asked(setup: Setup, entry: Entry) -> None:
    assert setup.puller.pull("plain", entry).runner == "torch" and setup.prepared == []
    chosen = setup.puller.pull("net", entry.model_copy(update={"choose_runner": True}))
    assert chosen.runner == "onnxruntime" and setup.store.card(chosen) == {"why": "faster"}


def test_a_changed_source_is_refused_and_nothing_published(setup: Setup, entry: Entry) -> None:
    Path(entry.files[0].source.removeprefix("file:")).write_bytes(b"other")
    with pytest.raises(SourceChanged, match="wanted " + entry.files[0].sha256):
        setup.puller.pull("net", entry)
    assert setup.store.names() == []


def test_an_unknown_scheme_is_named(setup: Setup) -> None:
    with pytest.raises(InvalidInput, match="file, pypi, hf, npm, deb"):
        setup.puller.fetcher.fetch("ftp:somewhere", "0" * 64)


def test_the_catalogue_reads_and_names_its_entries() -> None:
    entries = catalogue.load()
    assert {"smollm2-135m-instruct", "silero-vad", "mistral-spm"} <= entries.keys()
    assert len({entry.recipe for entry in entries.values()}) == len(entries)
    assert entries["silero-vad"].files[0].source.endswith(".jit")
    with pytest.raises(ModelNotFound, match="efficientnet-lite0"):
        catalogue.find(entries, "nope")


def test_photographs_are_fetched_for_whoever_prepares_and_are_part_of_the_recipe(
    setup: Setup, entry: Entry, tmp_path: Path
) -> None:
    seen: list[Photographs] = []
    puller = replace(setup.puller, prepare=lambda draft, photographs: seen.append(photographs))
    files = {}
    for name in ("sea", "hill"):
        path = tmp_path / name
        path.write_bytes(name.encode())
        digest = hashlib.sha256(name.encode()).hexdigest()
        files[name] = SourceFile(name=name, source=f"file:{path}", sha256=digest)
    pictures = Pictures(calibration=(files["sea"],), held_out=(files["hill"],))
    shown = entry.model_copy(update={"choose_runner": True, "pictures": pictures})
    puller.pull("net", shown)
    (found,) = seen
    assert {name: path.read_bytes() for name, path in found.calibration.items()} == {"sea": b"sea"}
    assert {name: path.read_bytes() for name, path in found.held_out.items()} == {"hill": b"hill"}
    chosen = entry.model_copy(update={"choose_runner": True})
    assert shown.recipe != chosen.recipe
    puller.pull("plain", chosen)
    assert seen[1] == Photographs()


def test_an_entry_without_photographs_has_the_recipe_it_always_had(entry: Entry) -> None:
    content = entry.model_dump(mode="json")
    pictures = content.pop("pictures")
    assert not pictures["calibration"] and not pictures["held_out"]
    canonical = json.dumps({"revision": REVISION, **content}, sort_keys=True, separators=(",", ":"))
    assert entry.recipe == hashlib.sha256(canonical.encode()).hexdigest()
