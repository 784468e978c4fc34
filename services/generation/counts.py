"""How many completions a request wants and how they are found: n, best_of, beams. Knows no model."""

from typing import Any

from maas.generation.v1 import generation_pb2 as pb
from services.runtime.errors import InvalidInput

NEUTRAL_PENALTY = 1.0


def counts(sampling: pb.Sampling, *, streams: bool) -> tuple[int, int]:
    """Completions answered, and those that are generated for that. InvalidInput names what contradicts."""
    n = sampling.n or 1
    if sampling.num_beams > 1:
        _check_beams(sampling, n)
        return n, n
    return n, _draws(sampling, n, streams)


def search(sampling: pb.Sampling) -> dict[str, Any]:
    """Beam search as the engine's SamplingParams have it. InvalidInput if its parts do not go together."""
    if sampling.num_beams > 1:
        penalty = sampling.length_penalty if sampling.HasField("length_penalty") else NEUTRAL_PENALTY
        return {"num_beams": sampling.num_beams, "length_penalty": penalty}
    if sampling.HasField("length_penalty") and sampling.length_penalty != NEUTRAL_PENALTY:
        raise InvalidInput(
            "sampling.length_penalty",
            f"is {sampling.length_penalty:g}, which needs beam search; set num_beams above 1, or leave it unset",
        )
    return {}


def _draws(sampling: pb.Sampling, n: int, streams: bool) -> int:
    draws = sampling.best_of or n
    if draws < n:
        raise InvalidInput("sampling.best_of", f"is {draws}, less than n = {n}; raise it or leave it unset")
    if draws > n and streams:
        raise InvalidInput(
            "sampling.best_of",
            f"is {draws}, more than n = {n}, which a stream cannot take back; use Generate, or leave it unset",
        )
    return draws


def _check_beams(sampling: pb.Sampling, n: int) -> None:
    beams = sampling.num_beams
    if sampling.temperature > 0:
        raise InvalidInput(
            "sampling.temperature",
            f"is {sampling.temperature:g}, but beam search draws nothing; leave it unset, or num_beams",
        )
    if n > beams:
        raise InvalidInput("sampling.n", f"is {n}, more than num_beams = {beams}; lower it or raise num_beams")
    if sampling.best_of not in (0, beams):
        raise InvalidInput(
            "sampling.best_of", f"is {sampling.best_of}, but num_beams = {beams} are searched; leave it unset"
        )
