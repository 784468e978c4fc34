"""Sessions on real models: opens them, computes their steps in order, ends them. Knows no streams."""

import asyncio
import secrets
from collections.abc import Callable

from maas.common.v1 import tensor_pb2
from maas.sequence.v1 import sequence_pb2
from services.runtime.batcher import Outcome
from services.runtime.context import current
from services.runtime.errors import InvalidInput
from services.runtime.host import ModelHost
from services.runtime.store.manifest import Manifest
from services.sequence import compute, convert, encode
from services.sequence.net import State
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

    def open(self, request: sequence_pb2.OpenSession) -> tuple[Held, Manifest]:
        """A new session, or with `resume` the live one. Raises SessionNotFound, ModelNotFound, Overloaded."""
        if request.resume:
            return self._resume(request)
        with self._host.lease(request.model, request.version, TASK) as model:
            encode.check_rate(request.sample_rate_hz, model.manifest, "open.sample_rate_hz")
            manifest, state = model.manifest, model.net.fresh_state()
        key = (current().tenant, request.session_id or self._new_id())
        return self.table.open(key, manifest.name, str(manifest.version), state), manifest

    def find(self, session_id: str) -> Held:
        """The caller's live session. SessionNotFound; InvalidInput if no id is given."""
        if not session_id:
            raise InvalidInput("session_id", "is empty; open a session first, or set `open`")
        return self.table.resume((current().tenant, session_id))

    def manifest(self, session: Held) -> Manifest:
        """The model version that the session runs on; ModelNotFound if it is no longer loaded."""
        with self._host.lease(session.model, session.version, TASK) as model:
            return model.manifest

    async def step(self, session: Held, request: sequence_pb2.SessionStep) -> Outcome[Heard]:
        """Computes the step that is due. A step that fails or is cancelled has not happened: send it again."""
        async with session.turn:
            state = self.table.begin(session, request.step)
            outcome = await self._compute(session, request.series, state)
            self.table.commit(session, outcome.value.state)
            return outcome

    async def _compute(self, session: Held, series: tensor_pb2.Series, state: State) -> Outcome[Heard]:
        with self._host.lease(session.model, session.version, TASK) as model:
            return await compute.step(model, Run(convert.frame(model, series), state))

    def _resume(self, request: sequence_pb2.OpenSession) -> tuple[Held, Manifest]:
        session = self.find(request.session_id)
        if request.model not in ("", session.model):
            raise InvalidInput("open.model", f"is {request.model!r}; this session runs on {session.model!r}")
        return session, self.manifest(session)

    async def sweep(self, every_s: float) -> None:
        """Ends idle sessions until cancelled, so that their state does not outlive them in an idle server."""
        while True:
            await asyncio.sleep(every_s)
            self.table.expire()
