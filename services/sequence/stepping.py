"""Sessions on real models: opens them, computes their steps in order, ends them. Knows no streams."""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from maas.sequence.v1 import sequence_pb2
from services.runtime.batcher import Outcome
from services.runtime.context import current
from services.runtime.errors import InvalidInput, ModelNotFound, PreconditionFailed
from services.runtime.host import ModelHost
from services.sequence import compute, convert
from services.sequence.models import encode
from services.sequence.models.net import State
from services.sequence.sessions import Session, SessionTable
from services.sequence.step import Heard, Run
from services.sequence.tensor_model import TensorModel

TASK = "sequence.session"
Held = Session[State]


class Sessions:
    """The sessions of this process. `draining` is set when the server is about to stop."""

    def __init__(
        self,
        host: ModelHost[TensorModel],
        table: SessionTable[State],
        draining: asyncio.Event,
        new_id: Callable[[], str] = lambda: secrets.token_urlsafe(16),
    ) -> None:
        self._host, self._new_id = host, new_id
        self.table, self.draining = table, draining

    def open(self, request: sequence_pb2.OpenSession) -> Held:
        """A new session, or with `resume` the live one. Raises SessionNotFound, ModelNotFound, Overloaded."""
        if request.resume:
            return self._resume(request)
        with self._host.lease(request.model, request.version, TASK) as model:
            encode.check_rate(request.sample_rate_hz, model.manifest, "open.sample_rate_hz")
            manifest, state = model.manifest, model.net.fresh_state()
        key = (current().tenant, request.session_id or self._new_id())
        return self.table.open(key, manifest.name, str(manifest.version), state)

    def find(self, session_id: str) -> Held:
        """The caller's live session. SessionNotFound; InvalidInput if no id is given."""
        if not session_id:
            raise InvalidInput("session_id", "is empty; open a session first, or set `open`")
        return self.table.resume((current().tenant, session_id))

    @contextmanager
    def lease(self, session: Held) -> Iterator[TensorModel]:
        """The version that the session was opened on; it stays in memory meanwhile, whichever serves by then.

        PreconditionFailed if it is gone already: no other version can read the state, so the session is over.
        """
        with ExitStack() as held:
            try:
                model = held.enter_context(self._host.lease(session.model, session.version, TASK))
            except ModelNotFound:
                self.table.close(session)
                raise _outlived(session) from None
            yield model

    async def step(self, session: Held, model: TensorModel, request: sequence_pb2.SessionStep) -> Outcome[Heard]:
        """Computes the step that is due. A step that fails or is cancelled has not happened: send it again."""
        async with session.turn:
            state = self.table.begin(session, request.step)
            outcome = await compute.step(model, Run(convert.frame(model, request.series), state))
            self.table.commit(session, outcome.value.state)
            return outcome

    def _resume(self, request: sequence_pb2.OpenSession) -> Held:
        session = self.find(request.session_id)
        if request.model not in ("", session.model):
            raise InvalidInput("open.model", f"is {request.model!r}; this session runs on {session.model!r}")
        if request.version not in ("", session.version, *self._labels(session)):
            raise InvalidInput("open.version", f"is {request.version!r}; this session runs on {session.version}")
        with self.lease(session) as model:
            encode.check_rate(request.sample_rate_hz, model.manifest, "open.sample_rate_hz")
        return session

    def _labels(self, session: Held) -> list[str]:
        """What else the session's version is called now."""
        labels = self._host.store.labels(session.model)
        return [label for label, version in labels.items() if str(version) == session.version]

    async def sweep(self, every_s: float) -> None:
        """Ends idle sessions until cancelled, so that their state does not outlive them in an idle server."""
        while True:
            await asyncio.sleep(every_s)
            self.table.expire()


def _outlived(session: Held) -> PreconditionFailed:
    return PreconditionFailed(
        f"session {session.session_id!r} was opened on version {session.version} of {session.model}, "
        "which is no longer served; open it anew",
        reason="SESSION_VERSION_GONE",
    )
