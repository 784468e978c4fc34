"""The work behind Tokenize: encode → truncate → pad. Knows no proto."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.runtime.errors import InvalidInput
from services.runtime.text.encoded import Encoded, Input
from services.runtime.text.padding import Padding, pad, padded_length
from services.runtime.text.tokenizer import Tokenizer
from services.runtime.text.truncation import Truncation, truncate

# A reply of more tokens than this could not be sent anyway, and its columns would not fit in memory.
MAX_REPLY_TOKENS = 1 << 22


@dataclass(frozen=True, slots=True)
class Order:
    """What to encode and how; `field` is the proto name of the inputs, for errors."""

    inputs: Sequence[Input]
    field: str
    add_special_tokens: bool
    truncation: Truncation | None = None
    padding: Padding | None = None

    @property
    def size(self) -> int:
        """A measure of the work: characters read, tokens padded, windows that may overlap."""
        characters = sum(map(_characters, self.inputs))
        overlap = self.truncation.max_tokens if self.truncation and self.truncation.stride else 1
        padded = self.padding.length * len(self.inputs) if self.padding else 0
        return characters * overlap + padded


def encode(tokenizer: Tokenizer, order: Order) -> list[Encoded]:
    """Each input of `order` encoded. Raises InvalidInput if truncation or padding cannot be honoured."""
    batch = tokenizer.encode_batch(order.inputs, add_special_tokens=order.add_special_tokens)
    if order.truncation is not None:
        rule = order.truncation
        batch = [truncate(each, rule, f"{order.field}[{index}]") for index, each in enumerate(batch)]
    if order.padding is None:
        return batch
    _check_amount(batch, order.padding)
    return pad(batch, order.padding)


def _characters(each: Input) -> int:
    return len(each) if isinstance(each, str) else len(each[0]) + len(each[1])


def _check_amount(batch: Sequence[Encoded], rule: Padding) -> None:
    windows = sum(1 + len(each.overflowing) for each in batch)
    length = padded_length(batch, rule)
    if windows * length > MAX_REPLY_TOKENS:
        raise InvalidInput(
            "padding.length",
            f"{windows} encodings of {length} tokens are over {MAX_REPLY_TOKENS} in all; split the request",
        )
