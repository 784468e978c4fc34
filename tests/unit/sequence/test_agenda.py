"""When sessions are checkpointed, under an injected clock."""

from services.sequence.checkpoints.agenda import Agenda
from services.sequence.sessions import Session, SessionTable
from tests.clock import Clock


def opened(names: str) -> list[Session[str]]:
    table: SessionTable[str] = SessionTable(lambda: 0.0, idle_s=600, limit=100)
    return [table.open(("", name), "vad", "1", "") for name in names]


def test_a_session_is_due_some_time_after_its_first_unkept_step() -> None:
    clock = Clock()
    agenda: Agenda[str] = Agenda(clock, every_steps=4, every_s=0.25)
    assert agenda.left_s() is None and agenda.take(9) == []
    alice, bob = opened("ab")
    assert agenda.note(alice)
    clock.now += 0.2
    assert not agenda.note(bob) and not agenda.note(alice)
    assert abs((agenda.left_s() or 0) - 0.05) < 1e-9 and agenda.take(9) == []
    clock.now += 0.06
    assert agenda.take(9) == [alice] and len(agenda) == 1
    clock.now += 0.2
    assert agenda.left_s() == 0 and agenda.take(9) == [bob] and len(agenda) == 0


def test_a_session_is_due_at_once_after_many_steps() -> None:
    agenda: Agenda[str] = Agenda(Clock(), every_steps=4, every_s=0.25)
    (alice,) = opened("a")
    for alice.last_step in (1, 2, 3):
        agenda.note(alice)
        assert agenda.take(9) == []
    alice.last_step = 4
    assert agenda.note(alice) and agenda.left_s() == 0 and agenda.take(9) == [alice] and not len(agenda)
    alice.saved_step = 4
    agenda.note(alice)
    assert agenda.take(9) == []


def test_the_urgent_come_first_and_nobody_twice() -> None:
    clock = Clock()
    agenda: Agenda[str] = Agenda(clock, every_steps=4, every_s=0.25)
    a, b, c, d = opened("abcd")
    for session in (a, b, c):
        agenda.note(session)
    agenda.urge(d)
    agenda.urge(c)
    clock.now += 1
    assert (agenda.take(3), agenda.take(3), agenda.take(3)) == ([d, c, a], [b], [])
