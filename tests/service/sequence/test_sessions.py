"""Sessions: streams and unary steps that carry state on."""

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from grpc import aio

from maas.sequence.v1 import sequence_pb2
from maas.sequence.v1 import sequence_service_pb2 as pb
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub
from services.sequence.__main__ import build
from services.sequence.settings import SequenceSettings
from tests.harness import running
from tests.service.sequence.calls import FRAMES, Talk, packed, refused, step

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def uninterrupted(stub: Any) -> list[float]:
    request = pb.ClassifyRequest(step_scores=True)
    request.series.values.append(packed(FRAMES.ravel()))
    return list((await stub.Classify(request)).results[0].step_scores)


async def test_a_session_hears_what_a_whole_recording_holds(stub: Any, uninterrupted: list[float]) -> None:
    talk = Talk(stub)
    opened = await talk.open(session_id="mine")
    assert (opened.session_id, opened.last_step, opened.idle_timeout_ms) == ("mine", 0, 600_000)
    heard = await talk.hear(FRAMES)
    np.testing.assert_allclose(heard, uninterrupted, atol=1e-4)
    ended = (await talk.say(close=True)).ended
    assert (ended.reason, ended.status.last_step) == (sequence_pb2.SESSION_END_CLOSED, 80)
    assert await talk.call.read() is aio.EOF
    await refused(Talk(stub).open(session_id="mine", resume=True), grpc.StatusCode.NOT_FOUND)


async def test_interleaved_sessions_do_not_hear_each_other(stub: Any, uninterrupted: list[float]) -> None:
    forth, back, mute = Talk(stub), Talk(stub), Talk(stub)
    ids = [(await talk.open()).session_id for talk in (forth, back, mute)]
    assert len(set(ids)) == 3
    heard, _, silence = await asyncio.gather(
        forth.hear(FRAMES), back.hear(FRAMES[::-1]), mute.hear(np.zeros_like(FRAMES))
    )
    np.testing.assert_allclose(heard, uninterrupted, atol=1e-4)
    assert max(silence) < 0.1


async def test_a_dropped_stream_is_resumed_where_it_stood(stub: Any, uninterrupted: list[float]) -> None:
    first = Talk(stub)
    await first.open(session_id="kept")
    heard = await first.hear(FRAMES[:40])
    first.call.cancel()
    second = Talk(stub)
    opened = await second.open(session_id="kept", resume=True)
    assert opened.last_step == 40
    heard += await second.hear(FRAMES[40:], first=41)
    np.testing.assert_allclose(heard, uninterrupted, atol=1e-4)


async def test_opening_an_id_anew_starts_from_nothing(stub: Any, uninterrupted: list[float]) -> None:
    first, second = Talk(stub), Talk(stub)
    old = await first.open(session_id="again")
    await first.hear(FRAMES[20:40])
    new = await second.open(session_id="again")
    assert new.generation > old.generation
    assert (await first.call.read()).ended.reason == sequence_pb2.SESSION_END_REPLACED
    np.testing.assert_allclose(await second.hear(FRAMES[:20]), uninterrupted[:20], atol=1e-4)


async def test_a_wrong_step_names_the_one_that_is_due_and_harms_nothing(stub: Any) -> None:
    talk = Talk(stub)
    await talk.open(session_id="order")
    await talk.hear(FRAMES[:2])
    field = "step.step"
    await refused(talk.say(step=step(2, FRAMES[30])), grpc.StatusCode.INVALID_ARGUMENT, field, "next step is 3")
    again = Talk(stub)
    await again.open(session_id="order", resume=True)
    short = again.say(step=step(3, FRAMES[2][:100]))
    await refused(short, grpc.StatusCode.INVALID_ARGUMENT, "step.series", "one step of this model is 512")
    once_more = Talk(stub)
    await once_more.open(session_id="order", resume=True)
    await once_more.hear(FRAMES[2:4], first=3)


async def test_the_first_message_must_open(stub: Any) -> None:
    await refused(Talk(stub).say(step=step(1, FRAMES[0])), grpc.StatusCode.INVALID_ARGUMENT, "open")
    wrong_rate = Talk(stub).open(sample_rate_hz=44100)
    await refused(wrong_rate, grpc.StatusCode.INVALID_ARGUMENT, "open.sample_rate_hz", "16000")


async def test_resume_refuses_another_rate_or_version(stub: Any) -> None:
    await Talk(stub).open(session_id="pinned", version="1", sample_rate_hz=16000)
    again = Talk(stub).open(session_id="pinned", resume=True, sample_rate_hz=8000)
    await refused(again, grpc.StatusCode.INVALID_ARGUMENT, "open.sample_rate_hz", "16000")
    other = Talk(stub).open(session_id="pinned", resume=True, version="99")
    await refused(other, grpc.StatusCode.INVALID_ARGUMENT, "open.version", "runs on 1")
    assert (await Talk(stub).open(session_id="pinned", resume=True, version="1")).session_id == "pinned"


async def test_unary_steps_equal_the_stream(stub: Any, uninterrupted: list[float]) -> None:
    reply = await stub.StepSession(pb.StepSessionRequest(open=sequence_pb2.OpenSession(), step=step(1, FRAMES[0])))
    session_id, heard = reply.status.session_id, [reply.output.scores[0]]
    for number, frame in enumerate(FRAMES[1:20], 2):
        reply = await stub.StepSession(pb.StepSessionRequest(session_id=session_id, step=step(number, frame)))
        heard.append(reply.output.scores[0])
    np.testing.assert_allclose(heard, uninterrupted[:20], atol=1e-4)
    assert reply.status.last_step == 20
    assert reply.served_by.model == "silero-vad"
    await stub.StepSession(pb.StepSessionRequest(session_id=session_id, close=True))
    gone = stub.StepSession(pb.StepSessionRequest(session_id=session_id, step=step(21, FRAMES[20])))
    await refused(gone, grpc.StatusCode.NOT_FOUND)


async def test_unary_call_without_anything_to_do(stub: Any) -> None:
    await refused(stub.StepSession(pb.StepSessionRequest()), grpc.StatusCode.INVALID_ARGUMENT, "step")
    no_id = stub.StepSession(pb.StepSessionRequest(step=step(1, FRAMES[0])))
    await refused(no_id, grpc.StatusCode.INVALID_ARGUMENT, "session_id")


async def test_a_session_whose_opening_call_failed_is_not_kept(stub: Any) -> None:
    opening = sequence_pb2.OpenSession(session_id="stillborn")
    failed = stub.StepSession(pb.StepSessionRequest(open=opening, step=step(7, FRAMES[0])))
    await refused(failed, grpc.StatusCode.INVALID_ARGUMENT, "step.step", "next step is 1")
    await refused(Talk(stub).open(session_id="stillborn", resume=True), grpc.StatusCode.NOT_FOUND)
    two_ids = stub.StepSession(pb.StepSessionRequest(open=opening, session_id="other"))
    await refused(two_ids, grpc.StatusCode.INVALID_ARGUMENT, "session_id")


async def test_an_idle_session_is_told_so(settings: SequenceSettings) -> None:
    impatient = settings.model_copy(update={"session_idle_s": 0.2})
    async with running(impatient, build) as (channel, _):
        talk = Talk(SequenceServiceStub(channel))
        await talk.open(session_id="sleepy")
        ended = (await talk.call.read()).ended
        assert ended.reason == sequence_pb2.SESSION_END_IDLE
        assert await talk.call.read() is aio.EOF
        unknown = Talk(SequenceServiceStub(channel)).open(session_id="sleepy", resume=True)
        await refused(unknown, grpc.StatusCode.NOT_FOUND)


async def test_open_streams_are_told_of_a_drain(settings: SequenceSettings) -> None:
    async with running(settings, build) as (channel, floor):
        stub = SequenceServiceStub(channel)
        talk = Talk(stub)
        await talk.open()
        floor.readiness.drain()
        assert (await talk.call.read()).ended.reason == sequence_pb2.SESSION_END_DRAINING
        assert await talk.call.read() is aio.EOF
        await refused(Talk(stub).open(), grpc.StatusCode.UNAVAILABLE, said="about to stop")


async def test_a_full_house_refuses_politely(settings: SequenceSettings) -> None:
    small = settings.model_copy(update={"session_limit": 1})
    async with running(small, build) as (channel, _):
        stub = SequenceServiceStub(channel)
        await Talk(stub).open(session_id="first")
        await refused(Talk(stub).open(), grpc.StatusCode.RESOURCE_EXHAUSTED, said="1 sessions")
