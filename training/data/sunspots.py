"""Yearly sunspot numbers 1700–2008 (SIDC, Royal Observatory of Belgium): one value a year, never negative."""

import csv
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.runtime.errors import InvalidInput
from training.data.mnist import Fetch
from training.data.series import SplitSeries

SOURCE = "pypi:statsmodels==0.15.0:statsmodels/datasets/sunspots/sunspots.csv"
SHA256 = "f67889b1d9002cd5227f0e0ef54e35b419cdd85a31279adef6f73fb41e5c0a9b"
# The years from which on a target belongs to validation, and to the test.
VALIDATION_FROM, TEST_FROM = 1910, 1950
NAME = "sunspots"
SEASON = 11  # years of a solar cycle, rounded


def load(fetcher: Fetch) -> SplitSeries:
    """All years in order; no row is dropped. InvalidInput names a row that is not as promised."""
    years, values = read_csv(fetcher.fetch(SOURCE, SHA256))
    first, test, axis = years.index(VALIDATION_FROM), years.index(TEST_FROM), np.array(years, np.float64)
    return SplitSeries(values[:, None], first, test, SEASON, SOURCE, axis, (NAME,), SHA256)


def read_csv(path: Path) -> tuple[list[int], NDArray[np.float64]]:
    """Years and values from `YEAR,SUNACTIVITY` rows. InvalidInput: a gap, a negative or no number."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    try:
        years, values = [int(row[0]) for row in rows], [float(row[1]) for row in rows]
    except (ValueError, IndexError) as error:
        raise InvalidInput("data", f"{path.name} holds a row that is not year,value: {error}") from None
    for line, (year, value) in enumerate(zip(years, values, strict=True), 2):
        if not math.isfinite(value) or value < 0 or year != years[0] + line - 2:
            raise InvalidInput("data", f"{path.name} line {line}: {year},{value:g} is no next year's count")
    return years, np.array(values)
