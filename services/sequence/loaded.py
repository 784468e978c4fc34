"""A sequence model in memory: its net, tokenizer, labels and its own queue to the device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from services.runtime.batcher import MicroBatcher, Observer, Outcome
from services.runtime.context import current
from services.runtime.device import DeviceThread
from services.runtime.errors import InvalidInput, Unimplemented
from services.runtime.ranking import Ranking
from services.runtime.store.manifest import Manifest
from services.runtime.text.tokenizer import Tokenizer
from services.sequence.explain import Explainer, Explanation, Question, Steps, Tokens
from services.sequence.models import encode
from services.sequence.models.encode import Floats
from services.sequence.models.net import Net
from services.sequence.models.scaling import Scaling
from services.sequence.settings import SequenceSettings

Predict = Callable[[Net, Sequence[Any]], list[Any]]
# A batch of less than this part of the budget is not shared out: handing it over would cost more than it saves.
WORTH_SHARING = 4


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What one call wants computed together: `predict` gives one answer for each part.

    `cost` counts tokens or frames; works are batched with others of the same `predict` and `urgent`.
    """

    predict: Predict
    parts: Sequence[Any]
    cost: int
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to a work's parts, and how many parts of all callers were computed with them."""

    values: list[Any]
    together: int


class SequenceModel:
    """One loaded version. Everything that computes goes through `compute`, on the device.

    `errors` float32 [N, F]: what a forecaster was wrong by one step ahead, in standard scores.
    """

    def __init__(
        self,
        net: Net,
        tokenizer: Tokenizer | None,
        labels: Sequence[str],
        device: DeviceThread,
        settings: SequenceSettings,
        observer: Observer | None = None,
        explainer: Explainer | None = None,
        errors: Floats | None = None,
    ) -> None:
        self.net, self.labels, self.errors = net, labels, errors
        self._explainer = explainer
        self._tokenizer, self._device = tokenizer, device
        self.scaling = Scaling.read(net.manifest.preprocessing)
        self.budget = settings.batch_steps if encode.is_series(net.manifest) else settings.batch_tokens
        self.session_idle_s = settings.session_idle_s
        self._batcher: MicroBatcher[Work, Answers] = MicroBatcher(
            partial(run, net),
            execute=device.run,
            budget=self.budget,
            cost=lambda work: work.cost,
            group=lambda work: (work.predict, work.urgent),
            queue_limit=settings.batch_queue_limit,
            parallel=device.count,
            least=self.budget // WORTH_SHARING,
            observer=observer,
        )

    @property
    def manifest(self) -> Manifest:
        """As served: a forced runner is named in it."""
        return self.net.manifest

    @cached_property
    def stepwise(self) -> bool:
        """Whether it gives one score a step, the probability of the second of two classes."""
        return bool(self.net.state_specs) and self.manifest.outputs[0].shape[-1] == 1

    @cached_property
    def classes(self) -> int:
        """Of a classifier."""
        return 2 if self.stepwise else self.manifest.outputs[0].shape[-1]

    @cached_property
    def ranking(self) -> Ranking:
        """Its labels; the number of a class that has none."""
        return Ranking([*self.labels, *map(str, range(len(self.labels), self.classes))])

    def tokenizer(self, field: str) -> Tokenizer:
        """InvalidInput, naming the `field` that was filled, if this model reads no text."""
        if self._tokenizer is None:
            raise InvalidInput(field, f"{self.manifest.name} reads series; set series instead")
        return self._tokenizer

    async def compute(self, work: Work) -> Outcome[list[Any]]:
        """One answer a part. Raises Overloaded, DeadlinePassed, or what the net raised."""
        done = await self._batcher.submit(work, current().deadline)
        return Outcome(done.value.values, done.queue_ms, done.compute_ms, done.value.together)

    async def explain(self, part: Tokens | Steps, question: Question) -> Outcome[Explanation]:
        """Which of its tokens or steps decided. Unimplemented for a model opened without its files."""
        if self._explainer is None:
            raise Unimplemented(f"{self.manifest.name} is not opened for explanations")
        return await self._explainer.explain(part, question, current().deadline)

    async def warm_up(self) -> None:
        """PreconditionFailed if the net's answer to a sample is not finite."""
        await self._device.run(self.net.try_out)

    async def close(self) -> None:
        """Ends what is accepted, then lets go of the net."""
        await self._batcher.close()
        if self._explainer is not None:
            self._explainer.close()
        await self._device.run(self.net.runner.close)


def run(net: Net, works: Sequence[Work]) -> list[Answers]:
    """All parts of all works in one go; the batcher made sure that they share `predict`."""
    parts = [part for work in works for part in work.parts]
    found = iter(works[0].predict(net, parts))
    return [Answers([next(found) for _ in work.parts], len(parts)) for work in works]
