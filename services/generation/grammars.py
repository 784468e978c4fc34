"""The constraints of one model, each compiled once, on a thread of their own. Knows no proto and no engine."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from llguidance import LLTokenizer, TokenizerWrapper

from services.generation import lark
from services.generation.engine.constraint import Grammar
from services.runtime.errors import InvalidInput
from services.runtime.text.tokenizer import Tokenizer


class Asked(NamedTuple):
    """A constraint before it is compiled: the proto's field, and its text."""

    kind: str
    text: str


@dataclass(slots=True)
class Entry:
    """A grammar that is there or on its way, and how many wait for it."""

    future: Future[Grammar]
    readers: int = 0

    @property
    def failed(self) -> bool:
        return self.future.done() and (self.future.cancelled() or self.future.exception() is not None)

    @property
    def worn(self) -> bool:
        return self.failed or (self.future.done() and self.future.result().worn)


class Grammars:
    """At most `kept` grammars, those asked for last. Used from one event loop.

    spellings: the bytes of each token of the model; special: ids that no text holds.
    """

    def __init__(
        self, words: Tokenizer, spellings: Sequence[bytes], special: frozenset[int], kept: int = 64
    ) -> None:
        self._words, self._spellings, self._special = words, spellings, special
        self._kept = kept
        self._known: OrderedDict[Asked, Entry] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="generation-grammar")

    async def compiled(self, asked: Asked) -> Grammar:
        """InvalidInput naming the constraint's field. Callers of one constraint wait for one compilation, which is
        not begun if all of them left before."""
        entry = self._entry(asked)
        entry.readers += 1
        try:
            return await asyncio.shield(asyncio.wrap_future(entry.future))
        finally:
            entry.readers -= 1
            left = not entry.readers and entry.future.cancel()
            if (left or entry.failed) and self._known.get(asked) is entry:
                del self._known[asked]

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _entry(self, asked: Asked) -> Entry:
        entry = self._known.get(asked)
        if entry is None or entry.worn:
            entry = self._known[asked] = Entry(self._thread.submit(self._compile, asked))
        self._known.move_to_end(asked)
        if len(self._known) > self._kept:
            self._known.popitem(last=False)
        return entry

    def _compile(self, asked: Asked) -> Grammar:
        field = f"constraint.{asked.kind}"
        try:
            text = lark.grammar(asked.kind, asked.text, self._drops_space)
        except ValueError as error:
            raise InvalidInput(field, str(error)) from error
        return Grammar(field, text, self._tokenizer, self._spellings)

    @cached_property
    def _tokenizer(self) -> LLTokenizer:
        """Takes about 150 ms of a vocabulary of 50,000, so it is not made before it is wanted."""
        return spelt(self._spellings, self._special)

    @cached_property
    def _drops_space(self) -> bool:
        """Whether the decoder leaves out a space that a text begins with."""
        spaced = (token for token, text in enumerate(self._spellings) if text[:1] == b" " and len(text) > 1)
        token = next((token for token in spaced if token not in self._special), None)
        return token is not None and not self._words.fold().push(token).startswith(" ")


@dataclass(frozen=True)
class Vocabulary:
    """What llguidance reads of a tokenizer."""

    tokens: list[bytes]
    special_token_ids: list[int]
    eos_token_id: int
    bos_token_id: None = None

    def __call__(self, text: bytes) -> list[int]:
        """Wanted only to spell out forced text, which `lark.OPTIONS` leaves to the model."""
        return []


def spelt(spellings: Sequence[bytes], special: frozenset[int]) -> LLTokenizer:
    """llguidance's idea of a vocabulary, with one more id for the end of a text."""
    end = len(spellings)
    vocabulary = Vocabulary([*spellings, b"<end>"], [*sorted(special), end], end)
    return LLTokenizer(TokenizerWrapper(vocabulary), n_vocab=end + 1, eos_token=end)
