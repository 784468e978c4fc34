"""What a caller asks of the engine, and one sequence on its way through it. No torch, no text, no protos."""

from collections import Counter
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from services.generation.engine.adapter import Adapter, salted
from services.generation.engine.bad_words import NO_BAD_WORDS, BadWords, Open
from services.generation.engine.drafts import Drafter
from services.generation.engine.output import Delta, FinishReason, PositionLogprobs, StopMatch
from services.runtime.tracing.span import Span

if TYPE_CHECKING:
    from services.generation.engine.beams import Beam

NO_TOKEN_LEFT = (
    "no token is left to choose: allowed_token_ids, bad_words, min_tokens and the constraint exclude each other"
)

TokenIds = tuple[int, ...] | NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen; the defaults are greedy and neutral. Token ids are in the vocabulary."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    allowed_token_ids: TokenIds = ()
    num_beams: int = 1
    length_penalty: float = 1.0

    @property
    def searches(self) -> bool:
        """Whether beam search looks for the likeliest whole outputs; temperature is 0 then."""
        return self.num_beams > 1

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken, so that filters and seeds cannot matter."""
        return self.temperature == 0.0

    @property
    def truncates(self) -> bool:
        """Whether any filter shortens the distribution before the draw."""
        return self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0 or self.typical_p < 1.0

    @property
    def edits_logits(self) -> bool:
        """Whether penalties, biases or a list of allowed tokens are set."""
        penalties = (self.repetition_penalty, self.frequency_penalty, self.presence_penalty)
        return penalties != (1.0, 0.0, 0.0) or bool(self.logit_bias or len(self.allowed_token_ids))


@dataclass(frozen=True, slots=True)
class Stopping:
    """When a sequence ends. End tokens and stop strings are held off for the first `min_tokens` tokens.

    max_tokens 0 computes the prompt only. `eos_token_ids` is empty to ignore the end token.
    """

    max_tokens: int = 256
    min_tokens: int = 0
    eos_token_ids: frozenset[int] = frozenset()
    stop_token_ids: frozenset[int] = frozenset()
    include_stop: bool = False

    @property
    def end_token_ids(self) -> frozenset[int]:
        """Every token that ends a sequence."""
        return self.eos_token_ids | self.stop_token_ids


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One prompt and what to make of it. `deadline` in time.monotonic() seconds; higher priority goes first,
    equal ones are shared fairly between tenants.

    logprobs, prompt_logprobs: alternatives reported a position; None = no report. Sequences of equal `salt` and
    adapter may share KV blocks. The engine fills `prompt_scores`, by position from 1 on, before the first output.
    """

    prompt: tuple[int, ...]
    sampling: SamplingParams = SamplingParams()
    stopping: Stopping = Stopping()
    seed: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    priority: int = 0
    tenant: str = ""
    deadline: float | None = None
    salt: bytes = b""
    adapter: Adapter | None = None
    prompt_scores: dict[int, PositionLogprobs] = field(default_factory=dict)

    @property
    def block_salt(self) -> bytes:
        """Requests of equal ones may share KV blocks."""
        return salted(self.salt, self.adapter)

    @property
    def scores_missing(self) -> bool:
        """Whether prompt log probabilities are wanted and not all there."""
        return self.prompt_logprobs is not None and len(self.prompt_scores) < len(self.prompt) - 1


class TextSink(Protocol):
    """Turns tokens into text and finds stop strings; `push` and `flush` give (new text, stop found).

    `fork`: another in the same state, which goes its own way from there.
    """

    def push(self, token: int) -> tuple[str, str | None]: ...

    def flush(self) -> tuple[str, str | None]: ...

    def fork(self) -> Self: ...


class Constraint(Protocol):
    """What the text of one sequence may go on with; raises InvalidInput where telling needs too much."""

    @property
    def finished(self) -> bool:
        """Whether the text is complete and cannot go on."""

    def allows(self, token: int) -> bool:
        """Whether `mask` is 0 there, found faster."""

    def mask(self) -> NDArray[np.float32]:
        """[vocab]: 0 for tokens that may come next, -inf for others."""

    def take(self, token: int) -> None:
        """The token was chosen."""

    def fork(self) -> Self:
        """Another sequence's, as far on as this one."""


class Sequence:
    """One continuation of a request. Filled by: scheduler `blocks`, `hashes`, `computed`,
    `charged`, `priority`; engine the rest.

    listener: who is told of each delta.
    """

    def __init__(
        self,
        request: Request,
        index: int,
        text: TextSink,
        bad_words: BadWords = NO_BAD_WORDS,
        listener: Callable[[Delta], None] = lambda _: None,
        constraint: Constraint | None = None,
    ) -> None:
        self.request = request
        self.priority = request.priority  # where it stands; waiting too long raises it
        self.index = index
        self.is_scorer = index == 0  # of the sequences of its request, the one that scores the prompt if any does
        self.text = text
        self.bad_words = bad_words
        self.opened: Open = ()  # bad words that the end of the output begins
        self.listener = listener
        self.span: Span | None = None  # of the call, if that is traced
        self.constraint = constraint
        self.drafter = Drafter()
        self.tokens = list(request.prompt)
        self.output_counts: Counter[int] = Counter()
        self.computed = 0  # tokens whose keys and values are in `blocks`
        self.blocks: list[int] = []
        self.hashes: list[bytes] = []  # of the full blocks, as far as they were needed
        self.charged = 0  # tokens that its tenant has paid for
        self.cached_tokens = 0  # prompt tokens found in the prefix cache on first admission
        self.arrival = 0
        self.started: float | None = None
        self.finish: FinishReason | None = None
        self.stop_match: StopMatch | None = None
        self.beam: Beam | None = None  # set while it is one of the beams of a search

    @property
    def order(self) -> tuple[int, int, int]:
        """Smaller goes first: priority, then arrival, then place in the request."""
        return -self.priority, self.arrival, self.index

    @property
    def pending(self) -> int:
        """Tokens to compute before the next one can be chosen."""
        return len(self.tokens) - self.computed

    @property
    def output_length(self) -> int:
        return len(self.tokens) - len(self.request.prompt)

    @property
    def room(self) -> int:
        """Tokens that may yet be chosen."""
        return self.request.stopping.max_tokens - self.output_length

    @property
    def held_open(self) -> bool:
        """Whether the next token may not end the sequence."""
        return self.output_length < self.request.stopping.min_tokens

    @property
    def edits_logits(self) -> bool:
        """Whether the model's logits are changed before choosing."""
        return self.constraint is not None or self.reweighs

    @property
    def reweighs(self) -> bool:
        """Whether they are changed by more than a constraint."""
        return self.request.sampling.edits_logits or self.held_open or bool(self.bad_words.texts)

    @property
    def scores_prompt(self) -> bool:
        """Whether every prompt row's logits are still wanted of it: one sequence does it for all."""
        return self.is_scorer and self.request.scores_missing

    @property
    def awaits_scores(self) -> bool:
        """Whether it must not start before another sequence has scored the prompt."""
        return not self.is_scorer and self.request.scores_missing

    @property
    def awaits_beams(self) -> bool:
        """Whether its next token waits for other beams to be computed."""
        return self.beam is not None and self.beam.offer is not None

    def fork(self) -> "Sequence":
        """A continuation of its own with the same past, which holds no blocks yet."""
        other = copy(self)
        other.text, other.tokens = self.text.fork(), self.tokens.copy()
        other.output_counts, other.hashes = self.output_counts.copy(), self.hashes.copy()
        other.constraint = self.constraint and self.constraint.fork()
        other.computed, other.blocks = 0, []
        return other

    def append(self, token: int) -> None:
        """Take the chosen token."""
        self.tokens.append(token)
        self.output_counts[token] += 1
        self.opened = self.bad_words.extend(self.opened, token)
        if self.constraint:
            self.constraint.take(token)
