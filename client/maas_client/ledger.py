"""The steps of a session: which are owed an output, which inputs must be kept. Knows no stream.

The contract: keep the input of every step that has no output yet or comes after `checkpointed_step`; after a break
resume, and send again from `last_step` + 1, or from the first step without an output if that is earlier.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from maas.common.v1 import tensor_pb2
from maas.sequence.v1 import sequence_pb2
from maas_client.errors import MaasError, NotFound
from maas_client.results import StepOutput

# Steps under way at once; a server tells the last 64 again.
AHEAD = 16
# Inputs kept at most: what cannot be sent again is given up, and so is going on after a break.
MOST_KEPT = 10_000
UNKNOWN = "SESSION_NOT_FOUND"


class Ledger:
    """Of one session, over all the streams that carry it."""

    def __init__(self, opening: sequence_pb2.OpenSession, most_kept: int = MOST_KEPT) -> None:
        self._opening, self._most_kept = opening, most_kept
        self._kept: dict[int, tensor_pb2.Series] = {}
        # The newest step given and the newest heard; the newest that survives its server, None = nothing does.
        self._given = self._heard = 0
        # Of the present stream: the newest step sent, and the newest answered.
        self._sent = self._answered = 0
        self._safe: int | None = None
        self._opened = self._anew = False

    @property
    def session_id(self) -> str:
        """Empty until the server chose one."""
        return self._opening.session_id

    @property
    def opened(self) -> bool:
        return self._opened

    @property
    def owed(self) -> int:
        """Steps given that have no output yet."""
        return self._given - self._heard

    @property
    def last_step(self) -> int:
        """The newest step that has its output."""
        return self._heard

    def add(self, series: tensor_pb2.Series) -> int:
        """The number of a new step."""
        self._given += 1
        self._kept[self._given] = series
        if len(self._kept) > self._most_kept and (oldest := next(iter(self._kept))) <= self._heard:
            del self._kept[oldest]
        return self._given

    def opening(self) -> sequence_pb2.OpenSession:
        """Begins the session, or goes on with what is kept of it."""
        if not self._opened:
            return self._opening
        again = sequence_pb2.OpenSession()
        again.CopyFrom(self._opening)
        again.resume = not self._anew
        again.checkpointed_step = self._safe or 0
        return again

    def welcome(self, status: sequence_pb2.SessionStatus) -> None:
        """The server's answer to `opening`: from where it is sent what."""
        if not self._opened:
            self._opening.session_id = status.session_id
            self._given = self._heard = status.last_step
            self._opened = True
        self._anew = False
        self._learn(status)
        self._sent = self._answered = min(self._heard, status.last_step)

    def unsent(self) -> Iterator[sequence_pb2.SessionStep]:
        """Steps to send now, in order; each counts as sent."""
        while self._sent < self._given and self._sent - self._answered < AHEAD:
            self._sent += 1
            yield self._step(self._sent)

    def oldest(self) -> sequence_pb2.SessionStep:
        """The first step without an output."""
        return self._step(self._heard + 1)

    def take(self, output: sequence_pb2.StepOutput) -> StepOutput | None:
        """None for an output that was told before."""
        self._answered = output.step
        fresh = output.step == self._heard + 1
        if fresh:
            self._heard = output.step
        self._learn(output)
        return StepOutput(output.step, np.asarray(output.scores, np.float32)) if fresh else None

    def status(self, status: sequence_pb2.SessionStatus) -> None:
        """What `ended`, or a single step's answer, says besides."""
        self._learn(status)

    def begin_anew(self, error: MaasError) -> None:
        """Where the session is lost, and all inputs are here, it is made once more. Raises `error` otherwise."""
        whole = self._given == 0 or (len(self._kept) == self._given and 1 in self._kept)
        if not (isinstance(error, NotFound) and error.reason == UNKNOWN and whole and not self._opening.resume):
            raise error
        self._safe, self._anew = None, True

    def _step(self, number: int) -> sequence_pb2.SessionStep:
        series = self._kept.get(number)
        if series is None:
            raise NotFound(f"step {number} is to be sent again, and its input is no longer kept")
        return sequence_pb2.SessionStep(step=number, series=series)

    def _learn(self, told: Any) -> None:
        if told.HasField("checkpointed_step"):
            self._safe = max(self._safe or 0, told.checkpointed_step)
        needless = min(self._heard, self._safe or 0)
        while self._kept and (oldest := next(iter(self._kept))) <= needless:
            del self._kept[oldest]
