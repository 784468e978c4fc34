"""What calls answer: frozen values of plain Python and numpy. Reads no message."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, overload

from maas_client.arrays import Floats, Ids
from maas_client.call import CallInfo
from maas_client.errors import MaasError

T = TypeVar("T", covariant=True)


@dataclass(frozen=True, slots=True)
class Batch(Sequence[T], Generic[T]):
    """One item for each input, in their order."""

    items: tuple[T, ...]
    info: CallInfo

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[T, ...]: ...
    def __getitem__(self, at: int | slice) -> T | tuple[T, ...]:
        return self.items[at]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """`tokens` and `offsets` ([tokens, 2], end exclusive) only where they were asked for."""

    ids: Ids
    tokens: tuple[str, ...] = ()
    offsets: Ids | None = None


@dataclass(frozen=True, slots=True)
class Encodings(Batch[Encoding]):
    """`tokenizer_digest` goes along with the ids, so that no other tokenizer's model takes them."""

    tokenizer_digest: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """A conversation in the words of the model's template."""

    text: str
    ids: Ids
    info: CallInfo


@dataclass(frozen=True, slots=True)
class Label:
    """`score` is a probability."""

    index: int
    name: str
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """Best first. `step_scores` [steps], `step_ms` apart, of models that answer per step, when asked for."""

    labels: tuple[Label, ...]
    step_scores: Floats | None = None
    step_ms: float = 0.0

    @property
    def best(self) -> Label:
        return self.labels[0]


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """`vectors` float32 [inputs, dimensions]; `token_counts`: tokens or steps read of each text or series."""

    vectors: Floats
    info: CallInfo
    token_counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Transduction:
    """`truncated`: the length limit cut the output."""

    text: str
    symbols: tuple[str, ...]
    truncated: bool


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """`values` float32 [horizon_steps, features]; `quantiles`: the same for each that was asked for."""

    values: Floats
    quantiles: Mapping[float, Floats]
    info: CallInfo


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """`attributions`: float32 [height, width] of a picture, [tokens] of a text, [steps] of a series."""

    target: Label
    attributions: Floats
    convergence_delta: float
    info: CallInfo
    tokens: tuple[str, ...] = ()
    overlay_png: bytes = b""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural logarithm, of the model's own distribution; rank 1 = likeliest."""

    token_id: int
    token: str
    logprob: float
    rank: int


@dataclass(frozen=True, slots=True)
class Position:
    """The token that stands at a place, and the likeliest there."""

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    cached_prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Completion:
    """`finish_reason` is STOP, LENGTH, EOS or CANCELLED; `stop` the text or token id that ended it, if one did."""

    index: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    stop: str | int | None = None
    logprobs: tuple[Position, ...] = ()
    cumulative_logprob: float = 0.0


@dataclass(frozen=True, slots=True)
class Generated:
    """`seed` writes the same again."""

    completions: tuple[Completion, ...]
    usage: Usage
    seed: int
    info: CallInfo
    prompt_logprobs: tuple[Position, ...] = ()

    @property
    def text(self) -> str:
        """Of the first completion, mostly the only one."""
        return self.completions[0].text


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a stream. `finish_reason` is on the last of a completion, `usage` on the last of all."""

    index: int
    text: str
    token_ids: tuple[int, ...] = ()
    finish_reason: str = ""
    stop: str | int | None = None
    logprobs: tuple[Position, ...] = ()
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """`positions` from the second token on; natural logarithms."""

    total_logprob: float
    perplexity: float
    scored_tokens: int
    positions: tuple[Position, ...]
    info: CallInfo


@dataclass(frozen=True, slots=True, eq=False)
class StepOutput:
    """`step` counts from 1; `scores` float32, one a class."""

    step: int
    scores: Floats


@dataclass(frozen=True, slots=True)
class Outcome:
    """One call of a fan-out, or step of a pipeline: its result, as the call alone would answer, or its error."""

    id: str
    result: Any
    error: MaasError | None
    elapsed_ms: float

    def get(self) -> Any:
        """The result; raises the error."""
        if self.error is not None:
            raise self.error
        return self.result


@dataclass(frozen=True, slots=True)
class Model:
    """A version as one service has it; `state` is SERVING, LOADING, AVAILABLE, FAILED …"""

    name: str
    version: str
    digest: str
    service: str
    tasks: tuple[str, ...]
    state: str
    state_reason: str
    architecture: str
    description: str
    runner: str
    precision: str
    licence: str
    labels: tuple[str, ...]
    default_for: tuple[str, ...]
    limits: Mapping[str, int] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Backend:
    """A process behind the gateway."""

    service: str
    address: str
    health: str
    in_flight: int
    calls: int
    failures: int


@dataclass(frozen=True, slots=True)
class Status:
    """The gateway as it stands. `redis` is connected, broken or off."""

    version: str
    uptime_s: float
    in_flight: int
    redis: str
    backends: tuple[Backend, ...]
