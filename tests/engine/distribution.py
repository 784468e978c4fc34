"""The distribution a request asks for, worked out in float64 numpy by the documented rules alone: one stage after
the other, each on what the last one left."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

Numbers = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Said:
    """What came before the next token."""

    prompt: tuple[int, ...] = ()
    output: tuple[int, ...] = ()


Stage = Callable[[Numbers, Said], Numbers]  # logits → logits; -inf is out


def penalties(repetition: float, frequency: float, presence: float) -> Stage:
    def stage(logits: Numbers, said: Said) -> Numbers:
        logits = logits.copy()
        for token in {*said.prompt, *said.output}:
            logits[token] = logits[token] / repetition if logits[token] > 0 else logits[token] * repetition
        for token, count in Counter(said.output).items():
            logits[token] -= count * frequency + presence
        return logits

    return stage


def bias(added: dict[int, float]) -> Stage:
    def stage(logits: Numbers, said: Said) -> Numbers:
        return logits + np.array([added.get(token, 0.0) for token in range(len(logits))])

    return stage


def allowed(tokens: Sequence[int]) -> Stage:
    return lambda logits, said: np.where(np.isin(np.arange(len(logits)), tokens), logits, -np.inf)


def temperature(value: float) -> Stage:
    return lambda logits, said: logits / value


def top_k(count: int) -> Stage:
    return lambda logits, said: only(logits, np.argsort(-logits, kind="stable")[:count])


def top_p(mass: float) -> Stage:
    return lambda logits, said: only(logits, start(softmax(logits), np.argsort(-logits, kind="stable"), mass))


def min_p(share: float) -> Stage:
    return lambda logits, said: only(logits, np.flatnonzero(softmax(logits) >= share * softmax(logits).max()))


def typical_p(mass: float) -> Stage:
    def stage(logits: Numbers, said: Said) -> Numbers:
        kept = np.flatnonzero(logits > -np.inf)
        probabilities = softmax(logits[kept])
        surprise = -np.log(probabilities)
        order = np.argsort(np.abs(surprise - probabilities @ surprise), kind="stable")
        return only(logits, kept[start(probabilities, order, mass)])

    return stage


def only(logits: Numbers, kept: np.ndarray) -> Numbers:
    out = np.full_like(logits, -np.inf)
    out[kept] = logits[kept]
    return out


def start(probabilities: Numbers, order: np.ndarray, mass: float) -> np.ndarray:
    """The shortest start of `order` with this mass."""
    total = 0.0
    for size, token in enumerate(order, start=1):
        total += probabilities[token]
        if total >= mass:
            return order[:size]
    return order


def softmax(logits: Numbers) -> Numbers:
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum())


def distribution(logits: Numbers, stages: Sequence[Stage], said: Said = Said()) -> Numbers:
    """[vocab] probabilities after all stages."""
    for stage in stages:
        logits = stage(logits, said)
    return softmax(logits)


def p_value(counts: np.ndarray, expected: Numbers) -> float:
    """Of Pearson's chi-square; cells that expect fewer than five are counted as one."""
    rare = expected < 5
    cells = np.append(expected[~rare], expected[rare].sum())
    found = np.append(counts[~rare], counts[rare].sum())
    filled = cells > 0
    statistic = ((found[filled] - cells[filled]) ** 2 / cells[filled]).sum()
    freedom = int(filled.sum()) - 1
    return float(torch.special.gammaincc(torch.tensor(freedom / 2.0), torch.tensor(statistic / 2.0)))
