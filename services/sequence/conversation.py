"""Talking with a session: one RunSession stream, or one StepSession call. Knows not what a step computes."""

from collections.abc import AsyncIterator

from maas.sequence.v1 import sequence_pb2
from maas.sequence.v1.sequence_service_pb2 import (
    RunSessionRequest,
    RunSessionResponse,
    StepSessionRequest,
    StepSessionResponse,
)
from services.runtime.batcher import Outcome
from services.runtime.errors import InvalidInput, ServiceError, Unavailable
from services.runtime.replies import served_by, timing
from services.sequence.inbox import Inbox
from services.sequence.models.encode import Floats
from services.sequence.sessions import End
from services.sequence.stepping import Held, Sessions
from services.sequence.tensor_model import TensorModel

ENDS = {
    End.CLOSED: sequence_pb2.SESSION_END_CLOSED,
    End.IDLE: sequence_pb2.SESSION_END_IDLE,
    End.REPLACED: sequence_pb2.SESSION_END_REPLACED,
    End.DROPPED: sequence_pb2.SESSION_END_CLOSED,
}
RETRY_AFTER_S = 1.0


async def converse(
    sessions: Sessions, requests: AsyncIterator[RunSessionRequest]
) -> AsyncIterator[RunSessionResponse]:
    """Answers each message in order. A client that half-closes leaves the session to be resumed.

    The model is leased for the stream's length: a version that another replaces drains after it.
    """
    first = await anext(requests, None)
    if first is None or not first.HasField("open"):
        raise InvalidInput("open", "must be set in the first message of the stream")
    if sessions.draining.is_set():
        text = "this server is about to stop; open the session at another"
        raise Unavailable(text, reason="DRAINING", retry_after_s=RETRY_AFTER_S)
    session = await sessions.open(first.open)
    inbox = Inbox(sessions, session, requests)
    try:
        with sessions.lease(session) as model:
            yield RunSessionResponse(opened=status(sessions, session), served_by=served_by(model.manifest))
            while (request := await inbox.next()) is not None:
                if (answer := await _answer(sessions, session, model, request)) is not None:
                    yield answer
        if reason := await _reason(sessions, session):
            ended = RunSessionResponse.Ended(reason=reason, status=status(sessions, session))
            yield RunSessionResponse(ended=ended)
    finally:
        await inbox.close()
        if session.end is None:  # whoever goes on elsewhere goes on from here
            sessions.keeper.urge(session)


async def _answer(
    sessions: Sessions, session: Held, model: TensorModel, request: RunSessionRequest
) -> RunSessionResponse | None:
    """None if the message, or what happened meanwhile, ended the session."""
    if request.HasField("open"):
        raise InvalidInput("open", "may be set in the first message only")
    if request.HasField("step"):
        try:
            outcome = await sessions.step(session, model, request.step)
        except ServiceError:
            if session.end is None:
                raise
            return None
        sessions.keeper.note(session)
        return RunSessionResponse(output=output(session, request.step.step, outcome), timing=timing(outcome))
    if request.close:
        await sessions.close(session)
    return None


async def single(sessions: Sessions, request: StepSessionRequest) -> StepSessionResponse:
    """Opens if `open` is set, steps if `step` is, closes if told to; at least one of them.

    A session whose opening call fails is not kept: its caller never learns of it.
    """
    session = await _session_of(sessions, request)
    try:
        return await _single(sessions, session, request)
    except BaseException:
        if _opens(request):
            sessions.end(session)
        raise


async def _session_of(sessions: Sessions, request: StepSessionRequest) -> Held:
    opening = request.HasField("open")
    if not (opening or request.HasField("step") or request.close):
        raise InvalidInput("step", "is not set; set step, open or close")
    if opening and request.session_id not in ("", request.open.session_id):
        raise InvalidInput("session_id", "is not open.session_id; set open.session_id alone")
    return await (sessions.open(request.open) if opening else sessions.find(request.session_id))


def _opens(request: StepSessionRequest) -> bool:
    return request.HasField("open") and not request.open.resume


async def _single(sessions: Sessions, session: Held, request: StepSessionRequest) -> StepSessionResponse:
    if request.HasField("step"):
        done = await sessions.once(session, request.step, _opens(request))
        session = done.session
        reply = StepSessionResponse(served_by=served_by(done.manifest), timing=timing(done.outcome))
        reply.output.CopyFrom(output(session, request.step.step, done.outcome))
    else:
        if request.close:  # wherever it has gone on
            session = await sessions.known(session)
        with sessions.lease(session) as model:
            reply = StepSessionResponse(served_by=served_by(model.manifest))
    if request.close:
        await sessions.close(session)
    reply.status.CopyFrom(status(sessions, session))
    return reply


async def _reason(sessions: Sessions, session: Held) -> "sequence_pb2.SessionEnd.ValueType | None":
    """Why the server ends the stream; None when the client half-closed it."""
    if session.end is None and sessions.draining.is_set():
        await sessions.keeper.save(session)
    if session.end is not None:
        return ENDS[session.end]
    return sequence_pb2.SESSION_END_DRAINING if sessions.draining.is_set() else None


def status(sessions: Sessions, session: Held) -> sequence_pb2.SessionStatus:
    return sequence_pb2.SessionStatus(
        session_id=session.session_id,
        generation=session.generation,
        last_step=session.last_step,
        idle_timeout_ms=round(sessions.table.idle_s * 1000),
        checkpointed_step=session.saved_step,
    )


def output(session: Held, step: int, outcome: Outcome[Floats]) -> sequence_pb2.StepOutput:
    return sequence_pb2.StepOutput(step=step, scores=outcome.value.tolist(), checkpointed_step=session.saved_step)
