"""What labels do to calls, read from the store alone: `maas models label` and `maas models rollback`."""

from contextlib import suppress

from services.runtime.errors import PreconditionFailed
from services.runtime.store.desired import Desired
from services.runtime.store.labels import STABLE
from services.runtime.store.manifest_file import DamagedModel
from services.runtime.store.store import ModelStore
from services.runtime.wish import wish


def answering(store: ModelStore, name: str) -> int:
    """The version that services give to calls naming none: chosen by hand, else stable, else the newest.

    Where the services of a model were told different ones, the oldest. Damaged versions do not count, as they do
    not load. ModelNotFound; DamagedModel if every version is.
    """
    return min(_answers(store, name) or _answers(store, name, chosen=False))


def effect(store: ModelStore, name: str) -> str:
    """One line: the labels, and what calls that name no version are answered by."""
    labels = ", ".join(f"{label} → {version}" for label, version in store.labels(name).items()) or "no labels"
    unloaded = "nothing: it was unloaded by hand; load it, or set stable"
    return f"{name}: {labels}; calls without a version get {min(_answers(store, name), default=unloaded)}"


def rollback(store: ModelStore, name: str, to: str = "") -> tuple[int, int]:
    """Points `stable` at `to` (empty: the version before the one that answers now); returns both, old and new.

    The files are checked first. ModelNotFound, DamagedModel, or PreconditionFailed if nothing is older.
    """
    now = answering(store, name)
    manifest = store.resolve(name, to or str(_before(store, name, now)))
    store.verify(manifest)
    store.set_label(name, STABLE, manifest.version)
    return now, manifest.version


def _answers(store: ModelStore, name: str, chosen: bool = True) -> set[int]:
    """What services give to calls without a version, none where the model was unloaded by hand.

    `chosen` false: what they would if nobody had chosen anything by hand.
    """
    versions = _readable(store, name)
    newest = store.manifest(name, versions[-1]) if versions else store.resolve(name)
    areas = [task.partition(".")[0] for task in newest.tasks]
    choices = {Desired(store.root, area).choice(name) if chosen else None for area in areas}
    wished = {wish(versions, store.labels(name), choice).unversioned for choice in choices}
    return {version for version in wished if version is not None}


def _readable(store: ModelStore, name: str) -> list[int]:
    found = []
    for version in store.versions(name):
        with suppress(DamagedModel):
            found.append(store.manifest(name, version).version)
    return found


def _before(store: ModelStore, name: str, now: int) -> int:
    versions = store.versions(name)
    older = [version for version in versions if version < now]
    if not older:
        have = ", ".join(map(str, versions))
        raise PreconditionFailed(
            f"nothing to roll back to: {name}/{now} answers and nothing is older; versions: {have}; --to names one"
        )
    return older[-1]
