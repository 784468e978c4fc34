"""One stream on its way into its record. Knows when an entry stands, is another's, or must be written again."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from maas.generation.v1 import generation_service_pb2 as service_pb
from services.generation.resume.record import Header, framed
from services.generation.resume.store import Entry, Outcome
from services.runtime.errors import PreconditionFailed

if TYPE_CHECKING:
    from services.generation.resume.recorder import Recorder

MOMENT_S = 0.05


class Recording:
    """`number`: of the next entry. `size`: bytes of the record. `kept`: the last message that surely stands."""

    def __init__(
        self, recorder: "Recorder", stream_id: str, key: str, number: int = 0, size: int = 0, kept: int = 0
    ) -> None:
        self.stream_id = stream_id
        self._recorder, self._key = recorder, key
        self._number, self._size, self._kept = number, size, kept
        self._held: list[bytes] = []
        self._last = kept
        self._entry: Entry | None = None  # may stand in Redis already: until that is known it stays as it is
        self._entry_last = kept
        self._bytes = self._entry_bytes = 0  # that wait; of them those of the entry
        self._full = self._over = self._taken = False

    @property
    def waits(self) -> bool:
        """Whether anything is left to write."""
        return bool(self._held or self._entry)

    def begin(self, header: Header) -> None:
        """What a new record starts with."""
        self._hold(header.pack())

    def tell(self, message: service_pb.GenerateStreamResponse) -> None:
        """The next message, just before it is told. PreconditionFailed once the stream was taken over."""
        if self._taken:
            raise self._taken_over()
        if not (self._over or self._full):
            self._last = message.sequence_number
            self._hold(message.SerializeToString())

    async def settle(self, message: service_pb.GenerateStreamResponse) -> bool:
        """`tell`, and waits until it stands, or Redis does not answer.

        False if another's stands in its place: then it must not be told.
        """
        first = not self.waits
        self.tell(message)
        while self.waits and await self._recorder.flush():
            pass
        if self._taken and not first:
            raise self._taken_over()
        return not self._taken

    async def finish(self) -> None:
        """After the last message: waits a moment until all stands. No stream waits long for Redis."""
        with suppress(TimeoutError):
            async with asyncio.timeout(MOMENT_S):
                while self.waits and await self._recorder.flush():
                    pass

    def due(self) -> Entry:
        """What to write now."""
        if self._entry is None:
            self._entry = self._recorder.store.entry(self._key, self._number, framed(self._held))
            self._entry_last, self._entry_bytes, self._held = self._last, sum(map(len, self._held)), []
        return self._entry

    def learn(self, outcome: Outcome) -> None:
        """What became of it."""
        if self._over:
            return
        if outcome is Outcome.KEPT:
            self._number, self._kept, self._entry = self._number + 1, self._entry_last, None
            self._leave(self._entry_bytes)
        else:
            self._taken = outcome is Outcome.TAKEN
            self._recorder.count(outcome.name.lower())
            self._end()

    def _hold(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._recorder.most_bytes:
            self._full = True
            self._recorder.count("full")
        elif self._recorder.admit(self, len(part)):
            self._bytes += len(part)
            self._held.append(part)
        else:
            self._end()

    def _end(self) -> None:
        """Nothing more is written: the record ends where it ends."""
        self._over, self._held, self._entry = True, [], None
        self._leave(self._bytes)

    def _leave(self, size: int) -> None:
        self._recorder.leave(size)
        self._bytes -= size

    def _taken_over(self) -> PreconditionFailed:
        return PreconditionFailed(
            f"this stream was resumed elsewhere after message {self._kept}; drop what came later here, and resume "
            f"after {self._kept} to read on",
            reason="STREAM_TAKEN_OVER",
            metadata={"last_sequence_number": str(self._kept)},
        )
