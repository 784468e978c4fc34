"""What is measured and what is asked of it. Knows no kind of model and no kind of data."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from services.runtime.errors import InvalidInput, NotFound
from services.runtime.runners.open import RunnerSettings
from services.runtime.store.manifest import Manifest
from services.runtime.store.publish import CARD
from training.data.mnist import Fetch

Tell = Callable[[int, int | None], None]  # done, and of how many if that is known
CHARACTERS = 100_000
NAMED = 20
LEARNT = "these data were learnt from: their test rows alone are judged"


def silent(done: int, of: int | None) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Question:
    """What one evaluation is about. `slices` empty = every column that the data has."""

    data: str
    slices: tuple[str, ...] = ()
    horizon: int = 0  # steps ahead of a forecast; 0 = as in training, or 1
    season: int = 0  # steps of the seasonal naive forecast; 0 = as in training, or the named set's
    context: int = 0  # tokens a language model sees at once; 0 = as in training, or what it reads, 512 at most
    characters: int = CHARACTERS  # most text that a language model is judged by; 0 = all
    threads: int = 0  # 0 = one a core
    precisions: bool = False  # language models: also in every precision that can be had
    seen: tuple[str, ...] = ()  # hashes of data that versions to be compared with this one learnt from


@dataclass(frozen=True)
class Subject:
    """One stored version. `fetcher` gets the files of named sets; `tell` hears how far the work is."""

    manifest: Manifest
    directory: Path
    fetcher: Fetch
    tell: Tell = silent

    @cached_property
    def labels(self) -> list[str]:
        """Class names in the order of its outputs; their numbers where it has no names."""
        if self.manifest.labels is None:
            return [str(place) for place in range(self.manifest.outputs[0].shape[-1])]
        return (self.directory / self.manifest.labels).read_text(encoding="utf-8").splitlines()

    @cached_property
    def plan(self) -> Mapping[str, Any]:
        """The settings it was trained by, as its card tells; empty for a version that was not trained here."""
        try:
            found = json.loads((self.directory / CARD).read_bytes()).get("plan", {})
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def learnt_from(subject: Subject, question: Question, sha256: str) -> bool:
    """Whether data of this hash are what it, or one it is to be compared with, was trained on."""
    return bool(sha256) and sha256 in (subject.manifest.provenance.sha256, *question.seen)


def places_of(subject: Subject, columns: Sequence[str]) -> list[int]:
    """Where the columns that the model learnt stand, in its order; of unnamed ones as they come. InvalidInput for
    other ones."""
    wanted = subject.manifest.preprocessing.get("columns", columns)
    if sorted(wanted) != sorted(columns):
        raise InvalidInput("data", f"has the columns {', '.join(columns)}; the model reads {', '.join(wanted)}")
    return [columns.index(name) for name in wanted]


def file_of(question: Question, sets: Sequence[str]) -> Path:
    """InvalidInput or NotFound unless the data are a file; `sets` are what there would be instead."""
    path = Path(question.data).expanduser()
    if path.is_dir():
        raise InvalidInput("data", f"{question.data} is a folder; a file, or {', '.join(sets)}, is needed")
    if not path.is_file():
        raise NotFound("data set or file", question.data, sets)
    return path


def runner_settings(question: Question) -> RunnerSettings:
    """The manifest's own runner, on as many threads as asked for."""
    return RunnerSettings(threads=question.threads or len(os.sched_getaffinity(0)))


def label_indices(labels: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    """Class name → output of the model: by its label, else as a number. InvalidInput names what fits neither."""
    places = {name: place for place, name in reversed(list(enumerate(labels)))}
    places |= {str(place): place for place in range(len(labels)) if str(place) not in places}
    strange = [name for name in names if name not in places]
    if strange:
        known = ", ".join(labels[:NAMED]) + (", …" if len(labels) > NAMED else "")
        raise InvalidInput("data", f"the model has no label {', '.join(strange[:5])}; it has {known}")
    return {name: places[name] for name in names}
