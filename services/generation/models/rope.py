"""How a checkpoint stretches its rotary positions to longer contexts. Plain numbers: no tensors."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.runtime.errors import PreconditionFailed


@dataclass(frozen=True, slots=True)
class Rope:
    """Pair i turns by position / (theta^(2i/d) · divisors[i]); `amplitude` multiplies cos and sin.

    No divisors: all are 1.
    """

    theta: float = 10000.0
    divisors: tuple[float, ...] = ()
    amplitude: float = 1.0


Scaling = Mapping[str, Any]


def rope(config: Scaling, head_dim: int) -> Rope:
    """From `rope_theta` and `rope_parameters` or `rope_scaling` of a config.json. PreconditionFailed for a kind
    unknown; KeyError for a missing key."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = float(given.get("rope_theta") or config.get("rope_theta") or 10000.0)
    kind = given.get("rope_type", given.get("type", "default"))
    if kind not in KINDS:
        raise PreconditionFailed(f"rope type {kind!r} is not supported; known: {', '.join(KINDS)}")
    wavelengths = [2 * math.pi * theta ** (2 * pair / head_dim) for pair in range(head_dim // 2)]
    return Rope(theta, *KINDS[kind](given, wavelengths, theta))


def _default(given: Scaling, wavelengths: list[float], theta: float) -> tuple[tuple[float, ...], float]:
    return (), 1.0


def _linear(given: Scaling, wavelengths: list[float], theta: float) -> tuple[tuple[float, ...], float]:
    """Every position divided by `factor` (Chen et al. 2023, positional interpolation)."""
    return (float(given["factor"]),) * len(wavelengths), 1.0


def _llama3(given: Scaling, wavelengths: list[float], theta: float) -> tuple[tuple[float, ...], float]:
    """Waves that turned less than `low_freq_factor` times in the first context are stretched by `factor`, those
    with more than `high_freq_factor` turns not at all, with a linear passage (Llama 3.1, `apply_scaling`)."""
    low, high = given["low_freq_factor"], given["high_freq_factor"]
    turns = (given["original_max_position_embeddings"] / wave for wave in wavelengths)
    return tuple(_blend((turn - low) / (high - low), given["factor"]) for turn in turns), 1.0


def _yarn(given: Scaling, wavelengths: list[float], theta: float) -> tuple[tuple[float, ...], float]:
    """The same passage by pairs instead of waves, and a sharper softmax (Peng et al. 2023, YaRN, eq. 17-23)."""
    factor, context = given["factor"], given["original_max_position_embeddings"]
    first, last = (
        len(wavelengths) * math.log(context / (turns * 2 * math.pi)) / math.log(theta)
        for turns in (given.get("beta_fast") or 32, given.get("beta_slow") or 1)
    )
    if given.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, 2 * len(wavelengths) - 1)
    width = last - first or 0.001
    kept = (1 - (pair - first) / width for pair in range(len(wavelengths)))
    return tuple(_blend(share, factor) for share in kept), _amplitude(given)


def _amplitude(given: Scaling) -> float:
    """As given, else 0.1·ln(factor) + 1, or the ratio of two such with the weights `mscale`, `mscale_all_dim`."""
    if given.get("attention_factor") is not None:
        return float(given["attention_factor"])
    grown = 0.1 * math.log(max(given["factor"], 1))
    if given.get("mscale") and given.get("mscale_all_dim"):
        return float((given["mscale"] * grown + 1) / (given["mscale_all_dim"] * grown + 1))
    return grown + 1


def _factors(given: Scaling, wavelengths: list[float], theta: float) -> tuple[tuple[float, ...], float]:
    """Divisors spelt out, one a pair: what GGUF files hold in `rope_freqs`."""
    divisors = tuple(map(float, given["factors"]))
    if len(divisors) != len(wavelengths):
        raise PreconditionFailed(f"rope factors: {len(divisors)} given, {len(wavelengths)} pairs in a head")
    return divisors, 1.0


def _blend(kept: float, factor: float) -> float:
    """The divisor of a wave of which the share `kept` (0 … 1) stays as it was."""
    kept = min(max(kept, 0.0), 1.0)
    return 1 / (kept + (1 - kept) / factor)


KINDS: Mapping[str, Callable[[Scaling, list[float], float], tuple[tuple[float, ...], float]]] = {
    "default": _default,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
    "factors": _factors,
}
