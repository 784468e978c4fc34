"""Several plans of one recipe, compared on validation rows; the test rows are looked at once, for the best one.

Knows no recipe, no terminal and not how one plan is trained.
"""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.runtime.errors import InvalidInput, PreconditionFailed
from training.comparable import DECISIVE
from training.loop import Diverged
from training.plan import Plan, plan_of
from training.run import Finished, Fitted, evaluate

MOST_POINTS = 64
MOST_NAME = 80


@dataclass(frozen=True, slots=True)
class Point:
    """One choice of the swept settings, and the whole plan that it makes."""

    settings: Mapping[str, Any]
    plan: Plan

    @property
    def name(self) -> str:
        """A folder's name: the settings as far as a path may hold them, and a hash that tells them apart."""
        told = re.sub(r"[^\w.=,-]", "_", self.label.replace(" ", ","))[:MOST_NAME]
        canonical = json.dumps(dict(self.settings), sort_keys=True)
        return f"{told}-{hashlib.sha256(canonical.encode()).hexdigest()[:8]}"

    @property
    def label(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.settings.items())


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trained point: `score` is its best on validation rows (higher is better; None = none, and `note` may say
    why), `best_epoch` counts from 1."""

    settings: Mapping[str, Any]
    score: float | None
    best_epoch: int
    steps: int
    seconds: float
    chosen: bool = False
    note: str = ""

    def told(self) -> dict[str, Any]:
        """Plain data for the card."""
        return {
            "settings": dict(self.settings),
            "validation_score": self.score,
            "best_epoch": self.best_epoch,
            "steps": self.steps,
            "seconds": round(self.seconds, 3),
            "chosen": self.chosen,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Swept:
    """Every point, and the net of the best one."""

    outcomes: Sequence[Outcome]
    best: Fitted

    def evaluate(self) -> Finished:
        """The one look at the test rows; the report's details hold the table as `sweep`."""
        return evaluate(self.best, {"sweep": [outcome.told() for outcome in self.outcomes]})


def points_of(plan: type[Plan], chosen: Mapping[str, Any], swept: Mapping[str, Sequence[str]]) -> list[Point]:
    """The grid over `swept`, every plan checked, in the order given. InvalidInput names the first bad value."""
    _check(chosen, swept)
    made = [plan_of(plan, {**chosen, **dict(zip(swept, row, strict=True))}) for row in grid(swept.values())]
    found = [Point({key: getattr(one, key) for key in swept}, one) for one in made]
    for place, point in enumerate(found):
        if any(point.settings == other.settings for other in found[:place]):
            raise InvalidInput("sweep", f"{point.label} stands there twice")
    return found


def grid(columns: Iterable[Sequence[str]]) -> list[tuple[str, ...]]:
    """Every combination; InvalidInput for more than MOST_POINTS."""
    columns = list(columns)
    count = math.prod(map(len, columns))
    if count > MOST_POINTS:
        raise InvalidInput("sweep", f"makes {count} points; {MOST_POINTS} are the most")
    return list(itertools.product(*columns))


def sweep(points: Sequence[Point], fit: Callable[[Point], Fitted]) -> Swept:
    """Trains each point by `fit` and keeps the net with the highest validation score, the first of equal ones.

    One that diverges stops no other. InvalidInput when points saw different data; PreconditionFailed when none
    reached a finite score.
    """
    best: tuple[int, Fitted] | None = None
    outcomes: list[Outcome] = []
    source = None
    for place, point in enumerate(points):
        try:
            fitted = fit(point)
        except Diverged as error:
            outcomes.append(Outcome(point.settings, None, 0, 0, 0.0, note=error.message))
            continue
        source = _same_source(source, fitted)
        outcomes.append(outcome_of(point, fitted))
        if outcomes[-1].score is not None and (best is None or fitted.place.best > best[1].place.best):
            best = place, fitted
    if best is None:
        raise PreconditionFailed("no point reached a finite validation score: try smaller step sizes")
    outcomes[best[0]] = replace(outcomes[best[0]], chosen=True)
    return Swept(outcomes, best[1])


def outcome_of(point: Point, fitted: Fitted) -> Outcome:
    """What is told of a point that was trained to its end."""
    place = fitted.place
    score = place.best if math.isfinite(place.best) else None
    return Outcome(point.settings, score, place.best_epoch + 1, place.step, place.seconds)


def _check(chosen: Mapping[str, Any], swept: Mapping[str, Sequence[str]]) -> None:
    for key, values in swept.items():
        if key in DECISIVE:
            raise InvalidInput("sweep", f"{key} decides what the score is measured on: set it, or compare models")
        if key in chosen:
            raise InvalidInput("sweep", f"{key} is both set and swept")
        if not values or "" in values:
            raise InvalidInput("sweep", f"{key} wants values between commas: {key}=a,b")


def _same_source(source: object, fitted: Fitted) -> object:
    provenance = fitted.trained.fields().get("provenance", {})
    found = provenance.get("source"), provenance.get("sha256")
    if source is not None and found != source:
        raise InvalidInput("sweep", "its points learn from different data: their scores cannot be compared")
    return found
