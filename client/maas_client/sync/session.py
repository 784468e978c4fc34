"""A session of single steps: each is kept by the server before it is answered, so that any replica takes the next.

A stream would want a thread to feed it; a step as a call of its own wants none. Knows no channel.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from maas.sequence.v1 import sequence_service_pb2 as pb
from maas_client import arrays
from maas_client.arrays import SeriesLike
from maas_client.call import Ask, How
from maas_client.errors import MaasError
from maas_client.ledger import Ledger
from maas_client.patience import Patience, passes
from maas_client.results import StepOutput

METHOD = "maas.sequence.v1.SequenceService/StepSession"


class Session:
    """Steps in, outputs out, in order. Used by one thread at a time.

    Leaving the `with` ends the session; an exception, or `leave`, keeps it for whoever resumes `session_id` before
    it idles out. Without Redis behind the servers it ends with the one that has it.
    """

    def __init__(self, ask: Callable[[Ask[Any]], Any], ledger: Ledger, how: How) -> None:
        self._ask, self._ledger, self._how = ask, ledger, how
        self._left = False

    @property
    def session_id(self) -> str:
        return self._ledger.session_id

    @property
    def last_step(self) -> int:
        """The newest step that has its output; of a resumed session what was computed before."""
        return self._ledger.last_step

    def __enter__(self) -> Self:
        self._ledger.welcome(self._call(pb.StepSessionRequest(open=self._ledger.opening())).status)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self._left:
            self._call(pb.StepSessionRequest(session_id=self.session_id, close=True))

    def leave(self) -> None:
        """The session stays when the `with` is left."""
        self._left = True

    def step(self, series: SeriesLike) -> StepOutput:
        """One step's input, [values] or [steps, features] as the model wants it, and its output."""
        number = self._ledger.add(arrays.series(series))
        while (found := self._oldest()) is None or found.step < number:
            pass  # what was owed since an earlier step failed
        return found

    def steps(self, series: Iterable[SeriesLike]) -> Iterator[StepOutput]:
        """One after the other."""
        for one in series:
            yield self.step(one)

    def _oldest(self) -> StepOutput | None:
        """Sends the first step without an output; again where the way or the server is gone for a moment."""
        request = pb.StepSessionRequest(session_id=self.session_id, step=self._ledger.oldest())
        patience = Patience()
        while True:
            try:
                reply = self._call(request)
            except MaasError as error:
                if not passes(error):
                    raise
                time.sleep(patience.pause_s(error))
            else:
                self._ledger.status(reply.status)
                return self._ledger.take(reply.output)

    def _call(self, request: pb.StepSessionRequest) -> Any:
        return self._ask(Ask(METHOD, request, pb.StepSessionResponse, lambda reply, _: reply, self._how))
