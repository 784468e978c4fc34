"""Sessions on a model: order, isolation, and steps that fail or are cancelled."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from maas.common.v1 import tensor_pb2
from maas.sequence.v1 import sequence_pb2
from services.runtime.device import DeviceThread
from services.runtime.errors import InvalidInput, ModelNotFound, PreconditionFailed, SessionNotFound
from services.sequence.loaded import SequenceModel
from services.sequence.sessions import SessionTable
from services.sequence.stepping import Sessions
from tests.unit.sequence.fakes import sum_net
from tests.unit.sequence.test_compute import GatedRunner, model_of


class OneModelHost:
    """Leases the one model it has until it is `gone`; says how many leases are out."""

    def __init__(self, model: SequenceModel) -> None:
        self.model, self.out, self.gone = model, 0, False
        self.store = self

    def labels(self, name: str) -> dict[str, int]:
        return {"stable": 1, "next": 2}

    @contextmanager
    def lease(self, name: str, version: str, task: str) -> Iterator[SequenceModel]:
        assert (name in ("", "sum"), version in ("", "1"), task) == (True, True, "sequence.session")
        if self.gone and version:
            raise ModelNotFound("version of model 'sum'", version, ["2"])
        self.out += 1
        try:
            yield self.model
        finally:
            self.out -= 1


@pytest.fixture
def runner() -> GatedRunner:
    return GatedRunner()


@pytest.fixture
async def host(runner: GatedRunner) -> AsyncIterator[OneModelHost]:
    device = DeviceThread("test-device")
    yield OneModelHost(model_of(sum_net(runner), device))
    runner.gate.set()
    device.close()


@pytest.fixture
def sessions(host: OneModelHost) -> Sessions:
    table = SessionTable(lambda: 0.0, idle_s=600, limit=8)
    return Sessions(host, table, asyncio.Event())  # type: ignore[arg-type]


def step(number: int, value: float) -> sequence_pb2.SessionStep:
    series = tensor_pb2.Series(values=[value] * 4, features=4)
    return sequence_pb2.SessionStep(step=number, series=series)


async def total(sessions: Sessions, session: object, number: int, value: float) -> float:
    with sessions.lease(session) as model:  # type: ignore[arg-type]
        return (await sessions.step(session, model, step(number, value))).value.item()  # type: ignore[arg-type]


async def test_steps_sent_at_once_are_taken_in_order(sessions: Sessions, runner: GatedRunner) -> None:
    runner.gate.set()
    session = await sessions.open(sequence_pb2.OpenSession())
    totals = await asyncio.gather(*(total(sessions, session, n, 1) for n in (1, 2, 3)))
    assert totals == [4, 8, 12]


async def test_a_cancelled_step_has_not_happened(
    sessions: Sessions, runner: GatedRunner, host: OneModelHost
) -> None:
    session = await sessions.open(sequence_pb2.OpenSession())
    abandoned = asyncio.create_task(total(sessions, session, 1, 100))
    await asyncio.to_thread(runner.entered.wait, 20)
    abandoned.cancel()
    with pytest.raises(asyncio.CancelledError):
        await abandoned
    assert (session.last_step, host.out) == (0, 0)
    runner.gate.set()
    assert await total(sessions, session, 1, 1) == 4


async def test_a_refused_step_has_not_happened(sessions: Sessions, runner: GatedRunner) -> None:
    runner.gate.set()
    session = await sessions.open(sequence_pb2.OpenSession())
    with pytest.raises(InvalidInput):
        await total(sessions, session, 1, float("nan"))
    assert await total(sessions, session, 1, 1) == 4


async def test_a_session_opened_anew_meanwhile_takes_no_late_answer(
    sessions: Sessions, runner: GatedRunner
) -> None:
    old = await sessions.open(sequence_pb2.OpenSession(session_id="x"))
    late = asyncio.create_task(total(sessions, old, 1, 100))
    await asyncio.to_thread(runner.entered.wait, 20)
    new = await sessions.open(sequence_pb2.OpenSession(session_id="x"))
    runner.gate.set()
    with pytest.raises(PreconditionFailed):
        await late
    assert await total(sessions, new, 1, 1) == 4


async def test_ids_are_made_when_none_is_given(sessions: Sessions) -> None:
    first, second = [await sessions.open(sequence_pb2.OpenSession()) for _ in range(2)]
    assert first.session_id != second.session_id
    assert len(first.session_id) >= 16


async def test_resume_needs_the_same_model_and_a_live_session(sessions: Sessions) -> None:
    await sessions.open(sequence_pb2.OpenSession(session_id="x"))
    same = await sessions.open(sequence_pb2.OpenSession(session_id="x", resume=True, model="sum"))
    assert same.session_id == "x"
    with pytest.raises(InvalidInput, match="runs on 'sum'"):
        await sessions.open(sequence_pb2.OpenSession(session_id="x", resume=True, model="other"))
    with pytest.raises(SessionNotFound):
        await sessions.open(sequence_pb2.OpenSession(session_id="y", resume=True))
    with pytest.raises(InvalidInput):
        await sessions.open(sequence_pb2.OpenSession(resume=True))


async def test_resume_compares_the_version_too(sessions: Sessions) -> None:
    await sessions.open(sequence_pb2.OpenSession(session_id="x"))
    for same in ("1", "stable", ""):
        await sessions.open(sequence_pb2.OpenSession(session_id="x", resume=True, version=same))
    for other in ("2", "next", "99"):
        with pytest.raises(InvalidInput, match=r"open\.version: .* runs on 1"):
            await sessions.open(sequence_pb2.OpenSession(session_id="x", resume=True, version=other))


async def test_a_session_ends_with_the_version_that_it_was_opened_on(
    sessions: Sessions, host: OneModelHost, runner: GatedRunner
) -> None:
    runner.gate.set()
    session = await sessions.open(sequence_pb2.OpenSession(session_id="x"))
    with sessions.lease(session) as model:
        host.gone = True
        await sessions.step(session, model, step(1, 1))
    with pytest.raises(PreconditionFailed, match="opened on version 1 of sum, which is no longer served"):
        await total(sessions, session, 2, 1)
    with pytest.raises(SessionNotFound):
        await sessions.find("x")
