"""Where a stream of text stands, so that a broken one goes on. Knows no channel and waits for nothing."""

import time
from typing import Any

from maas.generation.v1 import generation_pb2
from maas.generation.v1 import generation_service_pb2 as pb
from maas_client.ask.generation import delta
from maas_client.errors import DeadlineExceeded, MaasError
from maas_client.patience import Patience, passes
from maas_client.results import Delta

RECORD_ENDS = "RECORD_ENDS"


class Progress:
    """Of one GenerateStream: what has come, what to ask for next, until when."""

    def __init__(self, request: pb.GenerateStreamRequest, timeout_s: float) -> None:
        self.request = request
        self._deadline = time.monotonic() + timeout_s
        self._stream_id = ""
        # Of each message in turn: its completion, and the characters and tokens in it.
        self._told: list[tuple[int, int, int]] = []
        # Of each completion, what the caller has beyond the place from which it is told again.
        self._surplus: dict[int, list[int]] = {}
        self._patience = Patience()
        self.ended = False

    @property
    def remaining_s(self) -> float:
        """DeadlineExceeded once there is no time left."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded("the deadline passed while the stream was away")
        return left

    def take(self, message: pb.GenerateStreamResponse) -> Delta:
        """What is new in a message."""
        self._stream_id = self._stream_id or message.stream_id
        self._told.append((message.index, len(message.text_delta), len(message.token_ids)))
        self._patience.renew()
        self.ended = self.ended or message.HasField("usage")
        return self._fresh(delta(message))

    def pause_s(self, error: MaasError) -> float:
        """Seconds to wait before `request`, which goes on where the stream broke. Raises what does not pass."""
        if not self._stream_id or not (passes(error) or error.reason == RECORD_ENDS):
            raise error
        pause_s = self._patience.pause_s(error)
        if error.reason == RECORD_ENDS:
            self._drop(int(error.metadata["last_sequence_number"]))
        place = generation_pb2.Resume(stream_id=self._stream_id, after_sequence_number=len(self._told))
        self.request = pb.GenerateStreamRequest(resume=place)
        return min(pause_s, self.remaining_s)

    def _drop(self, last: int) -> None:
        """What came after message `last` is told again, the same in other pieces: surplus until then."""
        for index, characters, tokens in self._told[last:]:
            surplus = self._surplus.setdefault(index, [0, 0])
            surplus[0] += characters
            surplus[1] += tokens
        del self._told[last:]

    def _fresh(self, told: Delta) -> Delta:
        surplus = self._surplus.get(told.index)
        if not surplus:
            return told
        characters, tokens = min(surplus[0], len(told.text)), min(surplus[1], len(told.token_ids))
        surplus[0] -= characters
        surplus[1] -= tokens
        rest: dict[str, Any] = {"finish_reason": told.finish_reason, "stop": told.stop, "usage": told.usage}
        return Delta(
            told.index, told.text[characters:], told.token_ids[tokens:], logprobs=told.logprobs[tokens:], **rest
        )
