"""The store: whether its versions are whole and its labels lead somewhere. Loads no model."""

from contextlib import suppress

from cli.doctor.around import Around
from cli.doctor.finding import Finding, Findings, bad, ok, warn
from services.runtime.errors import ModelNotFound
from services.runtime.store import catalogue
from services.runtime.store.manifest_file import DamagedModel
from services.runtime.store.store import ModelStore


def store(around: Around) -> Findings:
    """That there is one, readable and with models."""
    have = ModelStore(around.root)
    names = have.names()
    if not names:
        return [
            bad(
                "store", f"{around.root} holds no model", "`maas models pull --all`, or name another by MAAS_STORE"
            )
        ]
    count = sum(len(have.versions(name)) for name in names)
    return [ok("store", f"{around.root}: {len(names)} models in {count} versions")]


def versions(around: Around) -> Findings:
    """Every version's manifest, and every file's hash unless it shall be quick."""
    have, whole = ModelStore(around.root), 0
    for name in have.names():
        for number in have.versions(name):
            try:
                manifest = have.manifest(name, number)
                have.verify(manifest, () if around.quick else None)
                whole += 1
            except (DamagedModel, ModelNotFound, OSError) as error:
                yield bad(f"{name}/{number}", str(error), _mend(name, number))
    if whole:
        yield ok(
            "versions", f"{whole} {'can be read' if around.quick else 'have the hashes they were published with'}"
        )


def labels(around: Around) -> Findings:
    """That each points at a version that is there."""
    have = ModelStore(around.root)
    for name in have.names():
        with suppress(OSError):
            for label, version in have.labels(name).items():
                if version not in have.versions(name):
                    there = ", ".join(map(str, have.versions(name)))
                    fix = f"`maas models label {name} {label} VERSION`, of {there}"
                    yield bad(f"label {name}@{label}", f"points at {version}, which is not there", fix)


def default(around: Around, program: str, task: str, name: str) -> Finding | None:
    """What is wrong with the model that answers a task when none is named; None = nothing."""
    have = ModelStore(around.root)
    what = f"default of {task}"
    try:
        manifest = have.resolve(name)
    except (ModelNotFound, DamagedModel, OSError):
        if name in catalogue.load():
            return bad(what, f"{program} would serve {name}, which the store lacks", f"`maas models pull {name}`")
        fix = (
            f"`maas train {name} --publish {name}` where that is a recipe;"
            " until then such calls are NOT_FOUND unless they name a model"
        )
        return warn(what, f"{program} would serve {name}, which the store lacks", fix)
    area = task.split(".")[0]
    if any(known.startswith(area) for known in manifest.tasks) or program == "tokenization":
        return None
    return bad(what, f"{name} is for {', '.join(manifest.tasks)}", "name a model of the task in its MAAS_…_MODEL")


def _mend(name: str, number: int) -> str:
    again = f"`maas models pull {name} --force`" if name in catalogue.load() else "publish it again"
    return f"{again}, then `maas models remove {name} {number}`"
