"""Groups of held-out rows: which is served worst, by how much, on how many rows. Plain tables; knows no model."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Groups = Mapping[str, Mapping[str, float]]

LOWER_IS_BETTER = ("mse", "rmse", "mae", "loss", "perplexity", "bits", "ece")  # how such a metric's name begins
LABEL = "label"
MOST_GROUPS = 100  # a column of more tells rows, not groups
SMALL_GROUP = 20  # under this many rows, chance moves an accuracy by some ten points


@dataclass(frozen=True, slots=True)
class Worst:
    """The group that is served worst by `metric`, and `gap`, how far it is from the best group's value."""

    group: str
    metric: str
    value: float
    gap: float
    rows: float

    @property
    def small(self) -> bool:
        return is_small(self.rows)


def worst_of(groups: Groups, metric: str) -> Worst:
    """Most errors or least merit, as the metric has it."""
    values = {group: told[metric] for group, told in groups.items()}
    choose = max if lower_is_better(metric) else min
    name = choose(values, key=lambda group: values[group])
    gap = max(values.values()) - min(values.values())
    return Worst(name, metric, values[name], gap, groups[name].get("count", 0))


def too_many(slices: Mapping[str, Groups]) -> dict[str, int]:
    """How many groups the columns have that tell rows apart: names or ids, which would fill a report."""
    return {name: len(told) for name, told in slices.items() if name != LABEL and len(told) > MOST_GROUPS}


def metric_of(groups: Groups, metrics: Iterable[str]) -> str | None:
    """The first of `metrics` that every group has: what the slice is judged by."""
    return next((name for name in metrics if all(name in told for told in groups.values())), None)


def lower_is_better(metric: str) -> bool:
    """Whether it counts errors: of an accuracy or a skill more is better."""
    return metric.startswith(LOWER_IS_BETTER)


def is_small(rows: float) -> bool:
    """Whether so few rows say little of their group."""
    return rows < SMALL_GROUP
