"""Which tokens or steps decided: one model's explanations, its net loaded at the first. Knows no proto."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from services.runtime.batcher import Outcome
from services.runtime.device import DeviceThread
from services.runtime.errors import InvalidInput
from services.runtime.heavy import read_ahead
from services.runtime.opened import Opened
from services.runtime.runners.base import Array
from services.runtime.store.manifest import Manifest
from services.runtime.turns import Turns
from services.sequence.models.encode import Floats, Ids
from services.sequence.models.net import Net
from services.sequence.models.predict import softmax
from services.sequence.settings import SequenceSettings

if TYPE_CHECKING:
    from services.sequence.explain_net import ExplainNet, Subject

SEQUENCES_AT_ONCE = 8  # most of them in one turn on the device
MOST_FRAMES = 256  # a net with memory must hear them one by one, for each step of integration


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """`ids` [T], and `blank` [T]: the same without what they say."""

    ids: Ids
    blank: Ids


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Standard scores or frames [T, F]; `field` names them in errors."""

    values: Floats
    field: str


@dataclass(frozen=True, slots=True)
class Question:
    """`target` None = the best class; `steps` of integration."""

    target: int | None
    steps: int


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """`attributions` float32 [T] sum, but for `delta`, to the rise of what judges the target from the baseline.

    Logits judge tokens and series, mean probabilities streams. `score` is the target's probability.
    """

    target: int
    score: float
    attributions: Array
    delta: float


class Explainer:
    """Explains answers of one version on the reference net, whatever runner serves them."""

    def __init__(self, net: Net, directory: Path, device: DeviceThread, settings: SequenceSettings) -> None:
        self._settings = settings
        self._hears = bool(net.state_specs)
        self._turns = Turns(device, settings.explain_limit)
        self._net = Opened(lambda: _open(net.manifest, directory, settings))

    async def explain(
        self, part: Tokens | Steps, question: Question, deadline: float | None
    ) -> Outcome[Explanation]:
        """Raises Overloaded, DeadlinePassed between turns, InvalidInput when the net's numbers overflow."""
        with self._turns.take(deadline) as turn:
            net = await self._net.get()
            from services.runtime.attribution import integrate

            subject = await turn.run(self._subject, net, part)
            judged = await turn.run(subject.judged)
            scores = judged if self._hears else softmax(judged)
            target = int(scores.argmax()) if question.target is None else question.target
            rows = max(1, min(SEQUENCES_AT_ONCE, self._settings.batch_tokens // subject.inputs.shape[1]))
            found = await integrate(subject.path(target), question.steps, rows, turn)
            if not (np.isfinite(scores).all() and np.isfinite(found.values).all()):
                field = part.field if isinstance(part, Steps) else "input"
                raise InvalidInput(field, "its values are so large that the model's answer is not finite")
            shares = found.values.sum(axis=1)
            return turn.outcome(Explanation(target, float(scores[target]), shares, found.delta))

    def _subject(self, net: "ExplainNet", part: Tokens | Steps) -> "Subject":
        """A net with memory between steps hears a stream, any other reads a series as a whole."""
        if isinstance(part, Tokens):
            return net.text(part.ids, part.blank)
        return net.stream(part.values) if self._hears else net.series(part.values)

    def close(self) -> None:
        """Let go of the net."""
        self._net.close()


def _open(manifest: Manifest, directory: Path, settings: SequenceSettings) -> "ExplainNet":
    read_ahead()
    # imported here: a process that is never asked to explain never pays for torch and captum
    from services.sequence.explain_net import ExplainNet

    return ExplainNet(manifest, directory, settings.runners)
