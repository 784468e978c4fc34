"""A stored version in a few words, as the commands tell it. Prints nothing."""

from cli.render import size
from services.runtime.store.manifest import Manifest
from services.runtime.store.manifest_file import DamagedModel
from services.runtime.store.store import ModelStore


def named(manifest: Manifest) -> dict[str, object]:
    """A version by name, number and digest."""
    return {"model": manifest.name, "version": manifest.version, "digest": manifest.digest}


def summary_or_damage(store: ModelStore, name: str, version: int) -> dict[str, str]:
    """The line of a version, also of one whose manifest or files are gone bad."""
    try:
        return summary(store, store.manifest(name, version))
    except (DamagedModel, OSError):
        told = dict.fromkeys(("labels", "runner", "size"), "")
        return {"model": name, "version": str(version), **told, "digest": "damaged"}


def summary(store: ModelStore, manifest: Manifest) -> dict[str, str]:
    """One line about a version."""
    directory = store.directory(manifest)
    pointing = [label for label, number in store.labels(manifest.name).items() if number == manifest.version]
    return {
        "model": manifest.name,
        "version": str(manifest.version),
        "labels": ", ".join(pointing),
        "runner": manifest.runner,
        "size": size(sum((directory / member).stat().st_size for member in manifest.files)),
        "digest": manifest.digest[7:19],
    }
