"""One request that sets a field and one that does not, and what must hold for the first alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from google.protobuf.message import Message

from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1 import generation_service_pb2 as service_pb
from services.generation.models.causal_lm import CausalLM
from tests.service.generation import CONFIG, Ask, free, net, words

TOKENS = 24
SMALL = {**CONFIG, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
TEXT = "def f(x):"  # after which the small net repeats itself a little: penalties show
PROMPT = words().encode_ids(TEXT)
Numbers = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Answer:
    """What came back, from Generate or, message by message, from GenerateStream."""

    reply: service_pb.GenerateResponse
    messages: list[service_pb.GenerateStreamResponse]

    @property
    def ids(self) -> list[int]:
        return list(self.reply.completions[0].token_ids)

    @property
    def text(self) -> str:
        return self.reply.completions[0].text

    @property
    def finish(self) -> int:
        return self.reply.completions[0].finish_reason


Check = Callable[[Answer], bool]
Edit = Callable[[Numbers, list[int]], None]  # (logits, output): changes the logits


@dataclass(frozen=True)
class Case:
    """`base` without and with `field` (dotted) set to `value`. `before` is asked once, in front of each of the
    two; `streams`: they go to GenerateStream."""

    field: str
    value: Any
    holds: Check
    base: Ask
    before: Ask | None = None
    streams: bool = False
    told: str = field(default="", compare=False)

    @property
    def requests(self) -> tuple[Ask, Ask]:
        """(with the field, without it)."""
        given = Ask.FromString(self.base.SerializeToString())
        put(given, self.field, self.value)
        return given, self.base

    def __str__(self) -> str:
        return f"{self.field} {self.told}".strip()


def put(request: Message, path: str, value: Any) -> None:
    """Set a field by its dotted name."""
    *groups, name = path.split(".")
    for group in groups:
        request = getattr(request, group)
    if isinstance(value, Message):
        getattr(request, name).CopyFrom(value)
    elif isinstance(value, Mapping):
        getattr(request, name).update(value)
    elif isinstance(value, list):
        getattr(request, name).extend(value)
    else:
        setattr(request, name, value)


def cold(**stopping: Any) -> Ask:
    """Greedy."""
    return Ask(text=TEXT, stopping=free(TOKENS, **stopping))


def warm(temperature: float = 2.0, **sampling: Any) -> Ask:
    """Drawn from a seed."""
    return Ask(text=TEXT, sampling=pb.Sampling(temperature=temperature, seed=7, **sampling), stopping=free(TOKENS))


def ending(**stopping: Any) -> Ask:
    """All but certain to choose the end token."""
    return Ask(
        text=TEXT,
        sampling=pb.Sampling(logit_bias={words().eos_id or 0: 100}),
        stopping=pb.Stopping(max_tokens=9, **stopping),
    )


def logits_after(ids: list[int]) -> Numbers:
    """The tiny net's next-token logits [vocab], float64."""
    with torch.no_grad():
        return np.asarray(net_once()(torch.tensor([ids]))[0, -1].double().numpy())


@cache
def net_once() -> CausalLM:
    return net(SMALL)


def greedy(edit: Edit | None = None, prompt: list[int] | None = None) -> list[int]:
    """The likeliest tokens after `prompt`, each step's logits changed by `edit(logits, output)`."""
    output: list[int] = []
    for _ in range(TOKENS):
        logits = logits_after((prompt or PROMPT) + output)
        if edit:
            edit(logits, output)
        output.append(int(logits.argmax()))
    return output


@cache
def plain() -> list[int]:
    """The greedy output."""
    return greedy()


def within(rule: Callable[[Numbers], Numbers], temperature: float = 2.0) -> Check:
    """Every token is one that `rule` (probabilities → mask) keeps at its step."""

    def holds(answer: Answer) -> bool:
        contexts = (PROMPT + answer.ids[:place] for place in range(len(answer.ids)))
        scaled = [logits_after(context) / temperature for context in contexts]
        weights = [np.exp(logits - logits.max()) for logits in scaled]
        kept = [rule(weight / weight.sum()) for weight in weights]
        return all(bool(mask[token]) for mask, token in zip(kept, answer.ids, strict=True))

    return holds


def leading(probabilities: Numbers, order: np.ndarray, mass: float) -> Numbers:
    """Mask of the shortest start of `order` that holds `mass`."""
    size = int(np.searchsorted(probabilities[order].cumsum(), mass)) + 1
    mask = np.zeros_like(probabilities)
    mask[order[:size]] = 1
    return mask


def nucleus(probabilities: Numbers, mass: float) -> Numbers:
    return leading(probabilities, np.argsort(-probabilities), mass)


def typical(probabilities: Numbers, mass: float) -> Numbers:
    surprise = -np.log(probabilities)
    return leading(probabilities, np.argsort(np.abs(surprise - probabilities @ surprise)), mass)


def likeliest(probabilities: Numbers, count: int) -> Numbers:
    return (probabilities >= np.sort(probabilities)[-count]).astype(float)


def frequent(logits: np.ndarray, output: list[int]) -> None:
    for token in output:
        logits[token] -= 2.0


def present(logits: np.ndarray, output: list[int]) -> None:
    logits[list(set(output))] -= 2.0


def repetition(factor: float, counted: Sequence[int]) -> Edit:
    """Positive logits of tokens in `counted` or the output divided by `factor`, negative ones multiplied."""

    def edit(logits: np.ndarray, output: list[int]) -> None:
        seen = list({*counted, *output})
        logits[seen] = np.where(logits[seen] > 0, logits[seen] / factor, logits[seen] * factor)

    return edit


def differing(prompt: list[int]) -> bool:
    """Whether each penalty gives another output than the others, and the first another where it leaves the prompt
    out."""
    repeated = [repetition(0.5, counted) for counted in (prompt, [])]
    outputs = [greedy(edit, prompt) for edit in (None, *repeated, frequent, present)]
    return len({tuple(output) for output in outputs}) == len(outputs)
