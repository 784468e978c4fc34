"""What one call wants of the engine and of its text. Plain values: no protos, no gRPC."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.generation.engine.bad_words import NO_BAD_WORDS, BadWords
from services.generation.engine.constraint import Constraint, Grammar
from services.generation.engine.request import Request
from services.generation.engine.request import Sequence as EngineSequence
from services.generation.engine.stops import StopStrings, TextOutput
from services.runtime.text.incremental import IncrementalDecoder
from services.runtime.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Job:
    """`draws` continuations of the request's prompt, of which the best `n` are answered.

    prefix: text put in front of each answer. interval: tokens a streamed message carries.
    """

    request: Request
    n: int = 1
    draws: int = 1
    stop: tuple[str, ...] = ()
    skip_special_tokens: bool = True
    prefix: str = ""
    interval: int = 1
    bad_words: BadWords = NO_BAD_WORDS
    grammar: Grammar | None = None

    def sequences(self, tokenizer: Tokenizer) -> Sequence[EngineSequence]:
        """The engine's sequences, fresh."""
        return [self._sequence(index, tokenizer) for index in range(self.draws)]

    def _sequence(self, index: int, tokenizer: Tokenizer) -> EngineSequence:
        stopping = self.request.stopping
        text = TextOutput(
            IncrementalDecoder(tokenizer, self.skip_special_tokens),
            StopStrings(self.stop, stopping.include_stop),
            stopping.min_tokens,
        )
        constraint = Constraint(self.grammar, stopping.eos_token_ids) if self.grammar else None
        return EngineSequence(self.request, index, text, self.bad_words, constraint=constraint)
