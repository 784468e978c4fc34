"""What a recipe is: data, net, loss, evaluation and the manifest of what comes out. Knows no single one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import nn

from training.data.mnist import Fetch
from training.loop import Job
from training.plan import Plan
from training.slices import worst_of


@dataclass(frozen=True, slots=True)
class Report:
    """An honest evaluation: metrics of the held-out rows, of a baseline, and per group of each slice."""

    metrics: Mapping[str, float]
    baseline: Mapping[str, float]
    slices: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    def worst(self, slice_name: str, metric: str) -> tuple[str, float, float]:
        """The group that is served worst by `metric`, its value, and how far it is from the best group's."""
        found = worst_of(self.slices[slice_name], metric)
        return found.group, found.value, found.gap


class Trained(Protocol):
    """A recipe at work on one plan: made once, used in this order."""

    @property
    def job(self) -> Job:
        """What the loop runs."""

    def evaluate(self, model: nn.Module) -> Report:
        """The one look at the test rows."""

    def fields(self) -> dict[str, Any]:
        """Manifest fields: tasks, architecture, config, inputs, outputs, preprocessing, labels, provenance."""

    def labels(self) -> tuple[str, ...]:
        """Class names, empty if there are none."""


@runtime_checkable
class Writer(Protocol):
    """A `Trained` whose version holds more than the weights as they were trained."""

    def write(self, model: nn.Module, directory: Path) -> None:
        """Puts `model.safetensors` and what belongs beside it (a tokenizer) into `directory`."""


@runtime_checkable
class Cut(Protocol):
    """A `Trained` that can say how its rows were cut."""

    def data(self) -> dict[str, Any]:
        """What a run writes down of its rows: rows and hash of each part, every row left out and why."""


class Recipe(Protocol):
    """One system of the suite, from data to a served version."""

    name: ClassVar[str]
    summary: ClassVar[str]
    plan: ClassVar[type[Plan]]

    def begin(self, plan: Any, fetcher: Fetch) -> Trained:
        """Reads the data and makes the net. Raises InvalidInput for data that cannot be used."""
