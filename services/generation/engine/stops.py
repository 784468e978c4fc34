"""Text of a sequence as it grows, cut at the first stop string. Knows no tokenizer: a decoder is given."""

from collections.abc import Sequence
from copy import copy
from typing import Protocol, Self


class Decoder(Protocol):
    """Token ids → text in pieces that never split a character."""

    def push(self, token_id: int) -> str: ...

    def flush(self) -> str: ...

    def fork(self) -> Self: ...


class StopStrings:
    """Finds the stop string that ends first (of those, the longest), however the text is cut into pieces.

    Text that may yet turn out to begin a stop string is kept back, so no part of a match is ever emitted.
    """

    def __init__(self, stops: Sequence[str], include: bool = False) -> None:
        self._stops = tuple(stops)
        self._include = include
        self._held = ""

    def push(self, text: str) -> tuple[str, str | None]:
        """(text to emit, the stop string found)."""
        self._held += text
        match = self._first_match()
        if match is not None:
            start, stop = match
            return self._emit(start + len(stop) if self._include else start, drop=True), stop
        return self._emit(len(self._held) - self._open_suffix()), None

    def flush(self) -> str:
        """No more text comes: what was kept back began no stop string."""
        return self._emit(len(self._held))

    def _first_match(self) -> tuple[int, str] | None:
        places = [(self._held.find(stop), stop) for stop in self._stops]
        found = [(start + len(stop), start, stop) for start, stop in places if start >= 0]
        return min(found)[1:] if found else None

    def _open_suffix(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for size in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self._stops):
                return size
        return 0

    def _emit(self, end: int, drop: bool = False) -> str:
        text, self._held = self._held[:end], "" if drop else self._held[end:]
        return text


class TextOutput:
    """Token → text that may be shown. The first `unchecked` tokens are not searched for stop strings."""

    def __init__(self, decoder: Decoder, stops: StopStrings, unchecked: int = 0) -> None:
        self._decoder = decoder
        self._stops = stops
        self._unchecked = unchecked

    def push(self, token: int) -> tuple[str, str | None]:
        """(text to emit, the stop string found)."""
        text = self._decoder.push(token)
        if self._unchecked:
            self._unchecked -= 1
            return text, None
        return self._stops.push(text)

    def fork(self) -> "TextOutput":
        """Another in the same state, which goes its own way from here."""
        return TextOutput(self._decoder.fork(), copy(self._stops), self._unchecked)

    def flush(self) -> tuple[str, str | None]:
        """What was kept back, at the end of a sequence that no stop string ended."""
        text, match = self._stops.push(self._decoder.flush())
        return (text, match) if match else (text + self._stops.flush(), None)
