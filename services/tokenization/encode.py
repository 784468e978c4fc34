"""The work behind Tokenize: measure → encode → truncate → pad, a few texts at a time. Knows no proto."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from services.runtime.errors import InvalidInput
from services.runtime.text.encoded import Encoded, Input
from services.runtime.text.padding import Padding, pad_to, padded_length
from services.runtime.text.truncation import Truncation, truncate, windows
from services.tokenization.words import Words

Check = Callable[[], None]
"""Raises when nobody waits for the answer any more; called between groups of texts."""

GROUP_CHARACTERS = 1 << 17  # read between two checks, unless one text is longer; at most some 100 ms
# What one reply may hold. A token with columns takes some 500 bytes on its way, an id alone some 40.
MAX_IDS = 1 << 22
MAX_COLUMN_TOKENS = 1 << 19
WINDOW_COST = 16  # tokens that a window's own objects weigh
ID_BYTES = 4  # little-endian uint32


@dataclass(frozen=True, slots=True)
class Order:
    """What to encode and how; `field` is the proto name of the inputs, for errors.

    columns: whether more than the ids is wanted.
    """

    inputs: Sequence[Input]
    field: str
    add_special_tokens: bool
    truncation: Truncation | None = None
    padding: Padding | None = None
    columns: bool = False

    @property
    def only_ids(self) -> bool:
        """Whether ids are all that is wanted, which is much cheaper to make."""
        return not (self.columns or self.truncation or self.padding)

    @property
    def size(self) -> int:
        """A measure of the work: characters read, tokens padded, windows that may overlap."""
        lengths = [_characters(each) for each in self.inputs]
        overlap = self.truncation.max_tokens if self.truncation and self.truncation.stride else 1
        padded = max(self.padding.length, *lengths) * len(lengths) if self.padding else 0
        return sum(lengths) * overlap + padded


def ids(words: Words, order: Order, check: Check) -> Iterator[bytes]:
    """The ids of each input as little-endian uint32, uncut. They are not counted: whoever keeps them does."""
    for group in _groups(order.inputs):
        check()
        yield from words.packed(group, order.add_special_tokens)


def bounded_ids(words: Words, order: Order, check: Check) -> Iterator[bytes]:
    """`ids`, with InvalidInput once they are more than a reply may hold."""
    total = 0
    for row in ids(words, order, check):
        total += len(row) // ID_BYTES
        _check_total(total, MAX_IDS, order.field)
        yield row


def encode(words: Words, order: Order, check: Check) -> Iterator[Encoded]:
    """Each input of `order` encoded, one at a time, once all are known to fit into a reply.

    Raises InvalidInput if they do not, or if truncation or padding cannot be honoured.
    """
    size = _measure(words, order, check)
    index = 0
    for group in _groups(order.inputs):
        check()
        for each in words.tokenizer.encode_batch(group, add_special_tokens=order.add_special_tokens):
            cut = truncate(each, order.truncation, f"{order.field}[{index}]") if order.truncation else each
            yield pad_to(cut, size, order.padding) if order.padding else cut
            index += 1


def _measure(words: Words, order: Order, check: Check) -> int:
    """The length to pad to. Counts ids alone: no column exists before every limit is checked."""
    sizes: list[tuple[int, int]] = []
    total = 0
    for index, (first, second, added) in enumerate(_lengths(words, order, check)):
        item = f"{order.field}[{index}]"
        if first + second > MAX_COLUMN_TOKENS:
            raise InvalidInput(item, f"has over {MAX_COLUMN_TOKENS} tokens; shorten it, or ask for its ids alone")
        rule = order.truncation or Truncation(first + second + added)
        count, kept = windows(first, second, added, rule, item)
        sizes.append((count, kept))
        total += _cost(count, kept)
        _check_total(total, MAX_COLUMN_TOKENS, order.field)
    if order.padding is None:
        return 0
    length = padded_length(max(kept for _, kept in sizes), order.padding)
    padded = sum(_cost(count, max(kept, length)) for count, kept in sizes)
    _check_total(padded, MAX_COLUMN_TOKENS, "padding.length")
    return length


def _lengths(words: Words, order: Order, check: Check) -> Iterator[tuple[int, int, int]]:
    """Tokens of each input: first text, second text, special tokens around them."""
    empty: Input = "" if order.field == "texts" else ("", "")
    bare, dressed = (len(words.packed([empty], special)[0]) // ID_BYTES for special in (False, True))
    added = dressed - bare if order.add_special_tokens else 0
    for group in _groups(order.inputs):
        check()
        firsts = [each if isinstance(each, str) else each[0] for each in group]
        seconds = [each[1] for each in group if not isinstance(each, str)]
        rows = [len(row) // ID_BYTES for row in words.packed(firsts + seconds, False)]
        others = rows[len(firsts) :] or [0] * len(firsts)
        yield from ((first, second, added) for first, second in zip(rows, others, strict=False))


def _groups(inputs: Sequence[Input]) -> Iterator[Sequence[Input]]:
    """Neighbours of at most GROUP_CHARACTERS together, or a single longer one."""
    start = length = 0
    for place, each in enumerate(inputs):
        length += _characters(each)
        if length > GROUP_CHARACTERS and place > start:
            yield inputs[start:place]
            start, length = place, _characters(each)
    yield inputs[start:]


def _cost(count: int, kept: int) -> int:
    return count * kept + (count - 1) * WINDOW_COST


def _characters(each: Input) -> int:
    return len(each) if isinstance(each, str) else len(each[0]) + len(each[1])


def _check_total(tokens: int, most: int, field: str) -> None:
    if tokens > most:
        raise InvalidInput(
            field, f"the reply would hold over {most} tokens; split the request, or use a smaller stride or length"
        )
