"""Sessions on real models: opens them, computes their steps in order, ends them. Knows no streams."""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from maas.sequence.v1 import sequence_pb2
from services.runtime.batcher import Outcome
from services.runtime.context import current
from services.runtime.errors import InvalidInput, ModelNotFound, PreconditionFailed
from services.runtime.host import ModelHost
from services.runtime.store.manifest import Manifest
from services.sequence import compute, convert
from services.sequence.checkpoints.keeper import Fate, Forgetful, Keeper
from services.sequence.checkpoints.memory import Checkpoint, Memory, unpack
from services.sequence.checkpoints.recent import mark_of
from services.sequence.checkpoints.store import unsure
from services.sequence.models import encode
from services.sequence.models.encode import Floats
from services.sequence.sessions import End, Key, Session, SessionTable, replaced, unknown
from services.sequence.step import Heard, Run
from services.sequence.tensor_model import TensorModel

TASK = "sequence.session"
TRIES = 3
Held = Session[Memory]


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step's outcome, the session that took it, and the model as it was served."""

    session: Held
    outcome: Outcome[Floats]
    manifest: Manifest


class Sessions:
    """The sessions of this process. `draining` is set when the server is about to stop.

    `keeper` keeps them where other replicas find them; without one they end with this process.
    """

    def __init__(
        self,
        host: ModelHost[TensorModel],
        table: SessionTable[Memory],
        draining: asyncio.Event,
        keeper: Keeper[Memory] | Forgetful[Memory] | None = None,
        new_id: Callable[[], str] = lambda: secrets.token_urlsafe(16),
    ) -> None:
        self._host, self._new_id = host, new_id
        self.table, self.draining = table, draining
        self.keeper = keeper or Forgetful()

    async def open(self, request: sequence_pb2.OpenSession) -> Held:
        """A new session, or with `resume` the live one, wherever it is; older handles of it are over.

        Raises SessionNotFound, ModelNotFound, Overloaded, PreconditionFailed, Unavailable.
        """
        if request.resume:
            return await self._resume(request)
        with self._host.lease(request.model, request.version, TASK) as model:
            encode.check_rate(request.sample_rate_hz, model.manifest, "open.sample_rate_hz")
            manifest, memory = model.manifest, Memory(model.manifest.digest, model.net.fresh_state())
        key = (current().tenant, request.session_id or self._new_id())
        for _ in range(TRIES):
            session = self.table.open(key, manifest.name, str(manifest.version), memory)
            if await self.keeper.save(session) is not Fate.LOST:
                return session
        raise replaced(key)

    async def find(self, session_id: str) -> Held:
        """The caller's live session; one that is not here is taken over from where it is.

        What is here may have gone on elsewhere: `once` and `sure` find that out.
        SessionNotFound; InvalidInput if no id is given; Unavailable if it is not here and nobody says where.
        """
        if not session_id:
            raise InvalidInput("session_id", "is empty; open a session first, or set `open`")
        key = (current().tenant, session_id)
        return self.table.resume(key) if self.table.get(key) else await self._take_over(key)

    async def sure(self, session: Held) -> Held:
        """The session as it is now, also if it has gone on elsewhere. Unavailable if nobody can tell."""
        if (fate := await self.keeper.save(session)) is Fate.UNKNOWN:
            raise unsure(session.key)
        return await self._take_over(session.key) if fate is Fate.LOST else session

    @contextmanager
    def lease(self, session: Held) -> Iterator[TensorModel]:
        """The version that the session was opened on; it stays in memory meanwhile, whichever serves by then.

        PreconditionFailed if it is gone already: no other version can read the state, so the session is over here.
        """
        with ExitStack() as held:
            try:
                model = held.enter_context(self._lease(session.key, session.model, session.version))
            except PreconditionFailed:
                self.table.drop(session)
                raise
            yield model

    async def step(self, session: Held, model: TensorModel, request: sequence_pb2.SessionStep) -> Outcome[Floats]:
        """Scores [K] of the step that is due; of a recent one that is sent again, what they were.

        A step that fails or is cancelled has not happened: send it again.
        """
        async with session.turn:
            frame = convert.frame(model, request.series)
            mark = mark_of(frame)
            if (known := _told(session, request.step, mark)) is not None:
                return Outcome(known, 0.0, 0.0, 0)
            memory = self.table.begin(session, request.step)
            done = await compute.step(model, Run(frame, memory.state))
            self.table.commit(session, _after(memory, mark, done.value))
            return Outcome(np.ravel(done.value.scores[0]), done.queue_ms, done.compute_ms, done.batch_size)

    async def once(self, session: Held, request: sequence_pb2.SessionStep, opened: bool = False) -> Stepped:
        """One step that is kept before it is told, so that the next one may come to any replica.

        A session that has gone on elsewhere is taken over, unless this very call `opened` it.
        """
        for _ in range(TRIES):
            if request.step != session.last_step + 1:
                session = await self.sure(session)
            with self.lease(session) as model:
                outcome = await self._outcome(session, model, request)
                manifest = model.manifest
            if outcome is not None and await self.keeper.save(session) is not Fate.LOST:
                return Stepped(session, outcome, manifest)
            if opened:
                break
            session = await self.find(session.session_id)
        raise replaced(session.key)

    def end(self, session: Held) -> None:
        """Closes the session here at once, and elsewhere in a moment."""
        self.table.close(session)
        self.keeper.urge(session)

    async def close(self, session: Held) -> None:
        """Closes the session everywhere, as far as that can be told within a moment."""
        self.table.close(session)
        await self.keeper.save(session)

    async def sweep(self, every_s: float, count: Callable[[int], None]) -> None:
        """Ends idle sessions until cancelled, so that their state does not outlive them in an idle server."""
        while True:
            await asyncio.sleep(every_s)
            self.table.expire()
            count(len(self.table))

    async def _outcome(
        self, session: Held, model: TensorModel, request: sequence_pb2.SessionStep
    ) -> Outcome[Floats] | None:
        """None if the session went on elsewhere meanwhile."""
        try:
            return await self.step(session, model, request)
        except PreconditionFailed:
            if session.end is not End.REPLACED:
                raise
            return None

    async def _resume(self, request: sequence_pb2.OpenSession) -> Held:
        session = await self.known(await self.find(request.session_id), request.checkpointed_step)
        if request.model not in ("", session.model):
            raise InvalidInput("open.model", f"is {request.model!r}; this session runs on {session.model!r}")
        if request.version not in ("", session.version, *self._labels(session)):
            raise InvalidInput("open.version", f"is {request.version!r}; this session runs on {session.version}")
        with self.lease(session) as model:
            encode.check_rate(request.sample_rate_hz, model.manifest, "open.sample_rate_hz")
        return self.table.renew(session)

    async def known(self, session: Held, step: int = 0) -> Held:
        """The session as it is now; what is here, where nobody can tell more.

        Unless that is older than `step`, which was kept once: then it is the session no longer.
        """
        fate = await self.keeper.save(session)
        if fate is Fate.LOST:
            session = await self._take_over(session.key)
        if session.last_step < step:
            raise unsure(session.key) if fate is Fate.UNKNOWN else unknown(session.key)
        return session

    async def _take_over(self, key: Key) -> Held:
        """The session from its checkpoint. SessionNotFound, Unavailable, PreconditionFailed."""
        claimed = await self.keeper.claim(key)
        if claimed is None:
            raise unknown(key)
        found = unpack(claimed.data)
        with self._lease(key, found.model, found.version) as model:
            memory = _memory(key, found, model)
        return self.table.adopt(
            key, found.model, found.version, claimed.generation, found.step, memory, saved_step=found.step
        )

    @contextmanager
    def _lease(self, key: Key, name: str, version: str) -> Iterator[TensorModel]:
        with ExitStack() as held:
            try:
                model = held.enter_context(self._host.lease(name, version, TASK))
            except ModelNotFound:
                raise _outlived(key, name, version, "which is no longer served") from None
            yield model

    def _labels(self, session: Held) -> list[str]:
        """What else the session's version is called now."""
        labels = self._host.store.labels(session.model)
        return [label for label, version in labels.items() if str(version) == session.version]


def _told(session: Held, step: int, mark: bytes) -> Floats | None:
    """Scores of a step that was told before."""
    return session.state.recent.find(session.last_step - step, mark) if session.state else None


def _after(memory: Memory, mark: bytes, heard: Heard) -> Memory:
    return Memory(memory.digest, heard.state, memory.recent.then(mark, np.ravel(heard.scores[0])))


def _memory(key: Key, found: Checkpoint, model: TensorModel) -> Memory:
    """PreconditionFailed if another digest's state stands there."""
    if found.digest != model.manifest.digest:
        raise _outlived(key, found.model, found.version, f"whose digest was {found.digest} and is another here")
    return found.memory(model.net.fresh_state())


def _outlived(key: Key, name: str, version: str, why: str) -> PreconditionFailed:
    return PreconditionFailed(
        f"session {key[1]!r} was opened on version {version} of {name}, {why}; open it anew",
        reason="SESSION_VERSION_GONE",
    )
