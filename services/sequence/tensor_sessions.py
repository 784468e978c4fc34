"""Sequences of the Open Inference Protocol, kept as sessions. Knows ids and turns, not how a step is computed."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from maas.common.v1 import tensor_pb2
from maas.sequence.v1 import sequence_pb2
from services.runtime.context import current
from services.runtime.errors import MOST_NAME, InvalidInput, PreconditionFailed, SessionNotFound
from services.runtime.oip_model import Infer
from services.runtime.oip_parameters import Part
from services.runtime.oip_tensors import Array
from services.sequence.checkpoints.keeper import Fate
from services.sequence.models import encode
from services.sequence.sessions import End, Key, replaced
from services.sequence.stepping import TRIES, Held, Sessions
from services.sequence.tensor_model import TensorModel
from services.sequence.tensor_series import check_finite


class TensorSessions:
    """A sequence is the session of its model's name and its id; the caller's tenant alone can name it."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        # One for each sequence that somebody works on or waits for; it goes with the last of them.
        self._lines: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, model: str, version: str, part: Part) -> AsyncIterator[tuple[TensorModel, Infer]]:
        """The model of the sequence and how to ask it for the next step, one request of it at a time.

        The lock serves first come, first served. A sequence whose first request fails is not kept.
        """
        if len(model.encode()) > MOST_NAME:
            raise InvalidInput("model_name", f"has over {MOST_NAME} bytes; no model has such a name")
        key = (current().tenant, f"inference/{model}/{part.key}")
        line = self._lines.setdefault(key, asyncio.Lock())
        async with line:
            turn = _Turn(self._sessions, model, version, part, key[1])
            session = await (turn.start() if part.start else turn.find())
            try:
                with self._sessions.lease(session) as loaded:
                    yield loaded, turn.infer
            except BaseException:
                if part.start:
                    self._sessions.end(turn.session or session)
                raise
            if part.end:
                await self._sessions.close(turn.session or session)


class _Turn:
    """One request's work on a sequence."""

    def __init__(self, sessions: Sessions, model: str, version: str, part: Part, name: str) -> None:
        self._sessions, self._model, self._version, self._part, self._name = sessions, model, version, part, name
        self.session: Held | None = None

    async def start(self) -> Held:
        """A new session; one of the same name is over."""
        opening = sequence_pb2.OpenSession(model=self._model, version=self._version, session_id=self._name)
        self.session = await self._sessions.open(opening)
        return self.session

    async def find(self) -> Held:
        """The session, wherever it is. SessionNotFound if it was not started or has ended."""
        try:
            self.session = await self._sessions.find(self._name)
        except SessionNotFound as error:
            # Clients know these words.
            error.message = (
                f"inference request for sequence {self._part.id} to model {self._model!r} must specify the START "
                "flag on the first request of the sequence: it is unknown here, ended or expired"
            )
            raise
        if self._version not in ("", self.session.version):
            text = f"is {self._version}; this sequence runs on version {self.session.version}"
            raise InvalidInput("model_version", text)
        return self.session

    async def infer(self, inputs: Mapping[str, Array], deadline: float | None) -> Mapping[str, Array]:
        """Scores [1, K] of the next step, told once they are kept: its requests carry no number to ask again by.

        What was computed here after the sequence had gone on elsewhere counts for nothing. The call's own deadline
        holds.
        """
        ((name, frames),) = inputs.items()
        if len(frames) != 1:
            raise InvalidInput(
                "inputs[0].shape", f"has {len(frames)} rows; a request of a sequence is 1 step: send them in order"
            )
        check_finite(frames, name)
        for _ in range(TRIES):
            session = self.session or await self.find()
            with self._sessions.lease(session) as model:
                scores = await self._step(session, model, frames)
            if scores is not None and await self._sessions.keeper.save(session) is not Fate.LOST:
                return {model.oip_outputs[0].name: scores.reshape(1, -1)}
            self.session = None
        raise replaced(session.key)

    async def _step(self, session: Held, model: TensorModel, frames: Array) -> Array | None:
        """None if the session went on elsewhere meanwhile."""
        features = 0 if encode.is_audio(model.manifest) else model.net.frame_width
        series = tensor_pb2.Series(packed=frames.astype("<f4", copy=False).tobytes(), features=features)
        step = sequence_pb2.SessionStep(step=session.last_step + 1, series=series)
        try:
            return (await self._sessions.step(session, model, step)).value
        except InvalidInput as error:
            raise InvalidInput("inputs[0]", error.violations[0].description) from None
        except PreconditionFailed:
            if session.end is not End.REPLACED:
                raise
            return None
