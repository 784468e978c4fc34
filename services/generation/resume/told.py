"""What the messages of a stream have told so far. Knows no engine, no record and no text but its length."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from maas.generation.v1 import generation_service_pb2 as service_pb


@dataclass(slots=True)
class Told:
    """Up to message `number`: tokens, count of letters (code points) and sum of log probabilities by completion,
    and which have ended."""

    number: int = 0
    tokens: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    letters: Counter[int] = field(default_factory=Counter)
    logprobs: dict[int, float] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    finished: bool = False

    @property
    def begun(self) -> dict[int, float]:
        """The completions of which something was told, with the log probability of that."""
        return {index: self.logprobs[index] for index, tokens in self.tokens.items() if tokens}

    @property
    def total(self) -> int:
        """Tokens of all completions."""
        return sum(map(len, self.tokens.values()))

    def take(self, message: service_pb.GenerateStreamResponse) -> None:
        """The next message."""
        self.number = message.sequence_number
        self.tokens[message.index] += message.token_ids
        self.letters[message.index] += len(message.text_delta)
        self.logprobs[message.index] = message.cumulative_logprob
        if message.finish_reason:
            self.ended.add(message.index)
        self.finished = message.HasField("usage")
