"""What each process was measured to cost, as a JSON file: read, checked, written. Measures nothing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cli.plan.queueing import Array
from services.runtime.errors import InvalidInput, NotFound

SHIPPED = Path(__file__).with_name("curves.json")
FILE = "plan.json"
LARGEST = 32  # calls that are taken together; beyond what was measured, each costs as the last did


@dataclass(frozen=True, slots=True)
class Points:
    """CPU seconds that `sizes` calls cost taken together; `waking[i]` more after sleeping `gaps[i]`."""

    sizes: Sequence[float]
    seconds: Sequence[float]
    gaps: Sequence[float] = (0.0,)
    waking: Sequence[float] = (0.0,)

    def batches(self, most: int = LARGEST) -> Array:
        """S(1) … S(most), straight between what was measured."""
        wanted = np.arange(1, most + 1)
        found = np.interp(wanted, self.sizes, self.seconds)
        beyond = np.maximum(0, wanted - self.sizes[-1]) * self.seconds[-1] / self.sizes[-1]
        first = self.seconds[0] * np.minimum(1, wanted / self.sizes[0])
        return np.asarray(np.maximum.accumulate(np.maximum(found + beyond, first)))


@dataclass(frozen=True, slots=True)
class Method:
    """Of one kind of call through the gateway, its answer computed; `idle_s` its latencies when nothing else runs,
    one after the other, and `lone_s` the mean after each of the gateway's gaps.

    `most`: calls that its service takes together, after `alone_s` of each by itself. `shared`: it takes up new
    ones while others run.
    """

    service: str
    gateway: Points
    points: Points
    idle_s: Sequence[float]
    lone_s: Sequence[float]
    request_bytes: int
    reply_bytes: int
    most: int = LARGEST
    alone_s: float = 0.0
    shared: bool = False

    @property
    def spread(self) -> Array:
        """Of the time of one call, as multiples of the mean."""
        found: Array = np.asarray(self.idle_s) / np.mean(self.idle_s)
        return found

    def rest_s(self, slept: Array, aside: Points | None = None) -> Array:
        """What a lone call takes beside the CPU seconds of those on its way, `aside` too; below zero where they
        work on after its answer.
        """
        ways = [one for one in (self.gateway, self.points, aside) if one]
        rests = np.asarray(self.lone_s) - sum(one.batches()[0] + np.asarray(one.waking) for one in ways)
        return np.asarray(np.interp(slept, self.gateway.gaps, rests))


@dataclass(frozen=True, slots=True)
class Curves:
    """`measured`: when and on what. Seconds of a call: `hit_s` of the gateway where the answer is known, `keep_s`
    of the gateway to look an answer up and keep it, and `redis_s` of Redis for the same.
    """

    measured: Mapping[str, Any]
    methods: Mapping[str, Method]
    memory_mib: Mapping[str, float]
    hit_s: float
    keep_s: float
    redis_s: float

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def load(path: Path) -> Curves:
    """NotFound where there is no file, InvalidInput where it is none of ours."""
    try:
        told = json.loads(path.read_text())
        methods = {name: _method(one) for name, one in told.pop("methods").items()}
        return Curves(methods=methods, **told)
    except FileNotFoundError:
        raise NotFound("curves", str(path), ["those that `maas plan measure` makes"]) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidInput(
            "curves", f"{path} holds no curves ({error}): make them by `maas plan measure`"
        ) from None


def _method(told: dict[str, Any]) -> Method:
    gateway, points = (Points(**told.pop(name)) for name in ("gateway", "points"))
    return Method(gateway=gateway, points=points, **told)
