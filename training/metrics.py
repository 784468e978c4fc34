"""Losses' companions: what a held-out set says of a model. Formulas with their sources; numpy in, floats out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]


def accuracy(predicted: Labels, truth: Labels) -> float:
    """Share of equal entries, (1/N) Σ [ŷᵢ = yᵢ]. Both int [N]."""
    return float(np.mean(predicted == truth))


def wilson_interval(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Where a share of which `hits` of `count` ≥ 1 cases were seen lies with 95 % confidence (z = 1.96).

    (p̂ + z²/2n ± z √(p̂(1−p̂)/n + z²/4n²)) / (1 + z²/n) (Wilson 1927; Brown, Cai & DasGupta 2001, eq. 4): unlike
    p̂ ± z·SE it stays within [0, 1] and is honest for few cases.
    """
    share, more = hits / count, z * z / count
    middle = share + more / 2
    spread = z * float(np.sqrt(share * (1 - share) / count + more / (4 * count)))
    return max(0.0, (middle - spread) / (1 + more)), min(1.0, (middle + spread) / (1 + more))


def confusion(predicted: Labels, truth: Labels, classes: int) -> npt.NDArray[np.int64]:
    """int64 [classes, classes]: row = truth, column = prediction."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (truth, predicted), 1)
    return table


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class: precision tp/(tp+fp), recall tp/(tp+fn), F1 their harmonic mean (van Rijsbergen 1979).

    A ratio without cases is 0, as in scikit-learn with zero_division=0.
    """

    precision: float
    recall: float
    f1: float
    support: int


def class_scores(table: npt.NDArray[np.int64]) -> list[ClassScore]:
    """Per class from a confusion table."""
    hits = np.diag(table).astype(float)
    precision = _ratio(hits, table.sum(0))
    recall = _ratio(hits, table.sum(1))
    f1 = _ratio(2 * precision * recall, precision + recall)
    rows = zip(precision, recall, f1, table.sum(1), strict=True)
    return [ClassScore(float(p), float(r), float(f), int(n)) for p, r, f, n in rows]


def macro_f1(predicted: Labels, truth: Labels, classes: int) -> float:
    """Mean F1 of the classes that occur in `truth`, each counted once (Manning et al. 2008, §13.6)."""
    hits = np.bincount(truth[predicted == truth], minlength=classes).astype(float)
    of_class, said = np.bincount(truth, minlength=classes), np.bincount(predicted, minlength=classes)
    return float(_ratio(2 * hits, of_class + said)[of_class > 0].mean())


def expected_calibration_error(probabilities: Floats, truth: Labels, bins: int = 15) -> float:
    """ECE = Σ_b |B_b|/N · |acc(B_b) − conf(B_b)| over equal-width bins of the top probability (Guo et al. 2017,
    arXiv:1706.04599, eq. 3). `probabilities` [N, classes], `truth` [N]."""
    confidence, predicted = probabilities.max(1), probabilities.argmax(1)
    places = np.clip((confidence * bins).astype(int), 0, bins - 1)
    correct = (predicted == truth).astype(float)
    gaps = (np.bincount(places, correct, bins) - np.bincount(places, confidence, bins)) / len(truth)
    return float(np.abs(gaps).sum())


def mean_squared_error(predicted: Floats, truth: Floats) -> float:
    """(1/N) Σ (ŷᵢ − yᵢ)²."""
    return float(np.mean((predicted - truth) ** 2))


def skill(error: float, naive_error: float) -> float:
    """Forecast skill 1 − MSE/MSE_naive (Murphy 1988): 1 perfect, 0 as good as the naive, negative worse."""
    return 1.0 - error / naive_error


def perplexity(mean_nll: float) -> float:
    """exp of the mean negative log likelihood per token, natural logarithm (Jelinek et al. 1977)."""
    return float(np.exp(mean_nll))


def unigram_entropy(counts: Sequence[int]) -> float:
    """−Σ p ln p of the token frequencies: the loss of the best model without context. Nats."""
    p = np.asarray([c for c in counts if c], float)
    p /= p.sum()
    return float(-(p * np.log(p)).sum())


def _ratio(top: npt.NDArray[Any], bottom: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    whole = bottom.astype(np.float64)
    found: npt.NDArray[np.float64] = np.zeros_like(whole)
    np.divide(top, whole, out=found, where=whole > 0)
    return found
