"""Which versions of a model should be loaded, and which one calls without a version mean. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.runtime.store.desired import Choice
from services.runtime.store.labels import STABLE


@dataclass(frozen=True, slots=True)
class Wish:
    """`unversioned` answers calls that name no version; None = an administrator unloaded the model.

    `beside` is kept loaded with it; `others`, newest first, are what may stand in for a broken `unversioned`.
    """

    unversioned: int | None = None
    beside: tuple[int, ...] = ()
    others: tuple[int, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)


def wish(versions: Sequence[int], labels: Mapping[str, int], choice: Choice | None) -> Wish:
    """`versions` ascending and not empty: an administrator's choice, else `stable`, else the newest.

    A choice holds until something newer than it knew of is published; labelling `stable` takes it back.
    """
    newest = versions[-1]
    labels = {label: version for label, version in labels.items() if version in versions}
    chosen = choice is not None and choice.newest >= newest
    if chosen and choice is not None and choice.version is None:
        return Wish()
    if chosen and choice is not None and choice.version in versions:
        unversioned, kept = choice.version, set(labels.values())
    else:
        unversioned, kept = labels.get(STABLE, newest), {*labels.values(), newest}
    beside = tuple(sorted(kept - {unversioned}, reverse=True))
    return Wish(unversioned, beside, tuple(v for v in reversed(versions) if v != unversioned), labels)
