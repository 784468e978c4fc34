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
    """CPU seconds that `sizes` calls cost when they are taken together."""

    sizes: Sequence[float]
    seconds: Sequence[float]

    def batches(self, most: int = LARGEST) -> Array:
        """S(1) … S(most), straight between what was measured."""
        wanted = np.arange(1, most + 1)
        found = np.interp(wanted, self.sizes, self.seconds)
        beyond = np.maximum(0, wanted - self.sizes[-1]) * self.seconds[-1] / self.sizes[-1]
        first = self.seconds[0] * np.minimum(1, wanted / self.sizes[0])
        return np.asarray(np.maximum.accumulate(np.maximum(found + beyond, first)))


@dataclass(frozen=True, slots=True)
class Method:
    """Of one kind of call through the gateway, its answer computed; `idle_s` its latencies when nothing else runs.

    `shared`: the service takes up new calls while others run.
    """

    service: str
    gateway: Points
    points: Points
    idle_s: Sequence[float]
    request_bytes: int
    reply_bytes: int
    shared: bool = False


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
