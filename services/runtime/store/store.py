"""The model store: `<root>/<model>/<version>/`. Finds, verifies, labels, publishes; loads nothing."""

import json
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, NoReturn

from services.runtime.errors import ModelNotFound, PreconditionFailed
from services.runtime.store import labels, manifest_file
from services.runtime.store.desired import Desired
from services.runtime.store.files import fsync, hold, replace, sha256_files
from services.runtime.store.manifest import Manifest
from services.runtime.store.manifest_file import AGAIN, DamagedModel
from services.runtime.store.paths import check_label, is_name, real_directory, real_file
from services.runtime.store.publish import (
    CARD,
    LOCKS,
    Draft,
    model_lock,
    publishing,
    remember_number,
    version_numbers,
    workspace,
)


class ModelStore:
    """Model versions under one root. Reading takes no lock: versions appear and vanish by one rename."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Every model with a published version, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if is_name(path.name) and version_numbers(path))

    def versions(self, name: str) -> list[int]:
        """Published versions, ascending; [] for an unknown model."""
        return version_numbers(self.root / name) if is_name(name) else []

    def manifest(self, name: str, version: int) -> Manifest:
        """The manifest of one version. ModelNotFound; DamagedModel if its file cannot be read or lies."""
        if version not in self.versions(name):
            self._not_found(name, str(version))
        found = manifest_file.read(self.root / name / str(version))
        if (found.name, found.version) != (name, version):
            raise DamagedModel(f"{name}/{version}/{manifest_file.FILE} says {found.name}/{found.version}")
        return found

    def manifests(self) -> list[Manifest]:
        """Those of all versions that can be read and are still there."""
        found = []
        for name in self.names():
            for number in self.versions(name):
                with suppress(DamagedModel, ModelNotFound):
                    found.append(self.manifest(name, number))
        return found

    def resolve(self, name: str, version: str = "") -> Manifest:
        """The manifest `version` means: "" or "latest", a number, or a label; else ModelNotFound."""
        known = self.versions(name)
        if known and version in ("", "latest"):
            return self.manifest(name, known[-1])
        if known and version.isascii() and version.isdecimal() and int(version) in known:
            return self.manifest(name, int(version))
        labelled = self.labels(name).get(version) if known else None
        if labelled is None or labelled not in known:
            self._not_found(name, version)
        return self.manifest(name, labelled)

    def directory(self, manifest: Manifest) -> Path:
        """Where the files of a version lie. ModelNotFound if it is gone."""
        path = self.root / manifest.name / str(manifest.version)
        if not (is_name(manifest.name) and real_directory(path)):
            self._not_found(manifest.name, str(manifest.version))
        return path

    def verify(self, manifest: Manifest, members: Collection[str] | None = None) -> None:
        """Hash the files anew; DamagedModel names the first that is missing, linked or changed.

        `members` limits this to the files a caller is going to read (a tokenizer without its weights).
        """
        directory = self.directory(manifest)
        members = list(manifest.files if members is None else members)
        missing = [member for member in members if real_file(directory, member) is None]
        where = f"{manifest.name}/{manifest.version}"
        if missing:
            raise DamagedModel(f"{where}: {missing[0]} is missing or not a regular file; {AGAIN}")
        for member, digest in sha256_files(directory, members).items():
            if digest != manifest.files.get(member):
                raise DamagedModel(
                    f"{where}: {member} has sha256 {digest}, published was {manifest.files.get(member)}; {AGAIN}"
                )

    def publish(self, name: str) -> AbstractContextManager[Draft]:
        """`with store.publish(name) as draft:` fill `draft.directory` and `draft.fields`; see `Draft`."""
        self.root.mkdir(parents=True, exist_ok=True)
        return publishing(self.root, name)

    def labels(self, name: str) -> dict[str, int]:
        """Label → version."""
        return labels.read(self.root / name) if self.versions(name) else {}

    def set_label(self, name: str, label: str, version: int | None) -> None:
        """Point `label` at a published version, or drop it (None).

        `stable` also takes back what administrators loaded by hand: the last word decides what serves.
        """
        check_label(label)
        known = self.versions(name)
        there = version in known if version is not None else is_name(name) and real_directory(self.root / name)
        if not there:
            self._not_found(name, str(version or label))
        labels.change(self.root / name, model_lock(self.root, name), label, version)
        if label == labels.STABLE:
            for desired in Desired.everywhere(self.root):
                desired.forget(name)

    def card(self, manifest: Manifest) -> dict[str, Any]:
        """Metrics and figures of a version: outside its digest. DamagedModel if they cannot be read."""
        path = self.directory(manifest) / CARD
        try:
            content: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
        except (OSError, ValueError) as error:
            where = f"{manifest.name}/{manifest.version}/{CARD}"
            raise DamagedModel(f"{where} is unreadable: {error}; {AGAIN}") from error
        return content

    def set_card(self, manifest: Manifest, card: Mapping[str, Any]) -> None:
        """Replace the card; evaluating a model never changes its digest."""
        replace(self.directory(manifest) / CARD, json.dumps(dict(card), indent=2, sort_keys=True).encode())

    def change_card(self, manifest: Manifest, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
        """Replace the card by what `change` makes of it. Of two who do so at once the later sees the earlier's."""
        with hold(self.root / LOCKS / f"{manifest.name}.card.lock"):
            self.set_card(manifest, change(self.card(manifest)))

    def remove(self, name: str, version: int) -> None:
        """Take a version away by one rename, whole or damaged. PreconditionFailed while a label points at it."""
        directory = self._occupied(name, version)
        with workspace(self.root) as aside, hold(model_lock(self.root, name)):
            self._occupied(name, version)
            holding = sorted(label for label, at in labels.read(directory.parent).items() if at == version)
            if holding:
                raise PreconditionFailed(
                    f"{name}/{version} is labelled {', '.join(holding)}: move the label first"
                )
            remember_number(self.root, name)
            directory.rename(aside / "removed")
            fsync(directory.parent)
            labels.drop_empty(directory.parent)

    def _occupied(self, name: str, version: int) -> Path:
        """The directory of a version, whatever is in it; ModelNotFound if there is none."""
        path = self.root / name / str(version)
        if not (is_name(name) and version > 0 and real_directory(path.parent) and real_directory(path)):
            self._not_found(name, str(version))
        return path

    def _not_found(self, name: str, version: str) -> NoReturn:
        known = self.versions(name)
        if not known:
            raise ModelNotFound("model", name, self.names())
        raise ModelNotFound("model version", f"{name}/{version}", [*map(str, known), *self.labels(name)])
