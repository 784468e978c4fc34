"""Which tokens the text of one sequence may go on with. Wraps llguidance; knows no kind of constraint, no torch.

What a grammar allows depends on the sequence's own tokens alone. A lexer remembers what it has worked out for all
sequences of its grammar; where that grows over a limit, a sequence goes on with a lexer of its own, so that it
ends as it would have ended alone.
"""

from collections.abc import Callable, Sequence
from copy import copy
from typing import TypeVar

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from numpy.typing import NDArray

from services.runtime.errors import InvalidInput

T = TypeVar("T")

# A step of the worst grammar takes about 30 ms, and its lexer 100 MiB. The rest are the library's own limits.
LIMITS = LLParserLimits(step_max_items=20_000, max_lexer_states=50_000, verbose_errors=False)
RENEWABLE_BYTES = 8192  # a longer grammar takes too long to compile between two tokens
PLACE = "at 1(8): "  # where `lark` puts the text of every kind but a grammar

# Eight tokens' bits, the first the lowest → 0 for 1 and -inf for 0.
SPREAD = np.where(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little"), 0.0, -np.inf)
SPREAD = SPREAD.astype(np.float32)


class Grammar:
    """A compiled constraint; its sequences belong to one thread.

    field: what errors name. spellings: the bytes of each token. `tokenizer` has those, and one id more for the end
    of the text. worn: whether its lexer has reached a limit, so that it is better compiled anew.
    """

    def __init__(
        self,
        field: str,
        text: str,
        tokenizer: LLTokenizer,
        spellings: Sequence[bytes],
    ) -> None:
        """InvalidInput if `text` is no grammar, or none that any text fits."""
        self.field = field
        self.worn = False
        self._text, self._tokenizer, self._spellings = text, tokenizer, spellings
        self._bits = np.empty((len(spellings) + 32) // 32, np.int32)
        self._first = self._compiled()
        if self._first.is_error() or not np.isfinite(self.mask(self._first)).any():
            raise InvalidInput(field, told(self._first) or "no text but the empty one fits it; change it")

    @property
    def renewable(self) -> bool:
        """Whether `anew` takes no longer than a step may."""
        return len(self._text) <= RENEWABLE_BYTES

    def begin(self) -> LLMatcher:
        """At the start of a text, sharing the lexer."""
        return self._first.deep_copy()

    def anew(self) -> LLMatcher:
        """At the start of a text, with a lexer of its own."""
        return self._compiled()

    def mask(self, matcher: LLMatcher) -> NDArray[np.float32]:
        """[vocab_size]: 0 for tokens that may follow, -inf for others; the end of the text is none of them."""
        matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        return SPREAD.take(self._bits.view(np.uint8), axis=0).reshape(-1)[: len(self._spellings)]

    def _compiled(self) -> LLMatcher:
        return LLMatcher(self._tokenizer, self._text, limits=LIMITS, log_level=0)


class Constraint:
    """A grammar and how far one text has come in it. `end_ids`: tokens that may end a text that is complete."""

    def __init__(self, grammar: Grammar, end_ids: frozenset[int] = frozenset()) -> None:
        self._grammar = grammar
        self._end_ids = end_ids
        self._matcher = grammar.begin()
        self._alone = False
        self._taken: list[int] = []

    @property
    def finished(self) -> bool:
        """Whether the text is complete and cannot go on."""
        return self._matcher.is_stopped()

    def allows(self, token: int) -> bool:
        """Whether `mask` is 0 there, found much faster. InvalidInput if that needs more than the limits."""
        if token in self._end_ids:
            return self._ask(LLMatcher.is_accepting)
        return self._ask(lambda matcher: matcher.validate_tokens([token])) == 1

    def mask(self) -> NDArray[np.float32]:
        """[vocab]: 0 for tokens that may come next, -inf for others. InvalidInput as above."""
        found = self._ask(self._grammar.mask)
        if self._end_ids and self._matcher.is_accepting():
            found[list(self._end_ids)] = 0.0
        return found

    def take(self, token: int) -> None:
        """The token was chosen. InvalidInput as above."""
        if token in self._end_ids:
            return
        self._ask(lambda matcher: matcher.consume_token(token))
        self._taken.append(token)

    def fork(self) -> "Constraint":
        """Another sequence's, as far on as this one."""
        other = copy(self)
        other._matcher, other._taken = self._matcher.deep_copy(), self._taken.copy()
        return other

    def _ask(self, question: Callable[[LLMatcher], T]) -> T:
        answer = question(self._matcher)
        if self._matcher.is_error():
            self._renew()
            answer = question(self._matcher)
        if self._matcher.is_error():
            raise InvalidInput(self._grammar.field, f"{told(self._matcher)}, after {len(self._taken)} tokens")
        return answer

    def _renew(self) -> None:
        """What others made the lexer remember shall not count here."""
        if not self._matcher.get_error().startswith("lexer error"):
            return
        self._grammar.worn = True
        if self._grammar.renewable and not self._alone:
            self._alone = True
            self._matcher = self._grammar.anew()
            self._matcher.consume_tokens(self._taken)


def told(matcher: LLMatcher) -> str:
    """What went wrong, in one line; empty if nothing did."""
    lines = [line.strip().removeprefix(PLACE) for line in matcher.get_error().splitlines()]
    if not lines:
        return ""
    if lines[0].startswith(("panic", "NoExtension")):
        return "no text of this model's tokens fits it; change it"
    reason = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), "")
    return f"{lines[0].rstrip(':')}: {reason}" if reason else lines[0]
