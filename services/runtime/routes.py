"""Which version of a model a call means. Pure: knows neither models in memory nor the store."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Route:
    """Of one model: the version that answers calls naming none, and what each label stands for."""

    unversioned: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)

    def roles(self, version: int) -> tuple[bool, list[str]]:
        """Whether `version` answers calls that name none, and its labels, sorted."""
        return self.unversioned == version, sorted(label for label, at in self.labels.items() if at == version)


class Routes:
    """The route of every model that answers."""

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}

    def names(self) -> list[str]:
        return sorted(self._routes)

    def of(self, name: str) -> Route:
        """The route of a model; an empty one for a model that does not answer."""
        return self._routes.get(name, Route())

    def number(self, name: str, version: str) -> int | None:
        """The version that "", a number or a label means; None for a label that is not known here."""
        if version.isascii() and version.isdecimal() and len(version) < 10:
            return int(version)
        route = self.of(name)
        return route.labels.get(version) if version else route.unversioned or None

    def point(self, name: str, unversioned: int, labels: Mapping[str, int], loaded: Collection[int]) -> list[int]:
        """Takes a new route; returns the versions whose role changed, the one for unversioned calls first.

        A label moves once what it moves to is loaded. Until then it stands for what it stood for.
        """
        before = self.of(name)
        after = Route(unversioned, {label: _target(before, label, at, loaded) for label, at in labels.items()})
        self._routes[name] = after
        concerned = {before.unversioned, unversioned, *before.labels.values(), *after.labels.values()}
        changed = [version for version in concerned if before.roles(version) != after.roles(version)]
        return sorted(changed, key=lambda version: (version != unversioned, version))

    def drop(self, name: str) -> None:
        self._routes.pop(name, None)


def _target(before: Route, label: str, at: int, loaded: Collection[int]) -> int:
    former = before.labels.get(label, at)
    return former if at not in loaded and former in loaded else at
