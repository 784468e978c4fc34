"""The session table under an injected clock."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.runtime.errors import InvalidInput, Overloaded, PreconditionFailed, SessionNotFound
from services.sequence.sessions import End, Session, SessionTable
from tests.clock import Clock

ALICE, BOB = ("", "alice"), ("", "bob")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(clock: Clock) -> SessionTable[str]:
    return SessionTable(clock, idle_s=600, limit=3)


def advance(table: SessionTable[str], session: Session[str], step: int, state: str) -> str:
    before = table.begin(session, step)
    table.commit(session, state)
    return before


def test_steps_are_counted_and_each_starts_where_the_last_ended(table: SessionTable[str]) -> None:
    session = table.open(ALICE, "vad", "1", "zero")
    assert [advance(table, session, n, f"after {n}") for n in (1, 2, 3)] == ["zero", "after 1", "after 2"]
    assert session.last_step == 3


@pytest.mark.parametrize("step", [1, 3, 7])
def test_a_gap_or_a_repeat_names_the_step_that_is_due(table: SessionTable[str], step: int) -> None:
    session = table.open(ALICE, "vad", "1", "zero")
    advance(table, session, 1, "one")
    with pytest.raises(InvalidInput, match="next step is 2"):
        table.begin(session, step)
    assert advance(table, session, 2, "two") == "one"


def test_a_step_that_never_committed_may_be_sent_again(table: SessionTable[str]) -> None:
    session = table.open(ALICE, "vad", "1", "zero")
    table.begin(session, 1)
    assert table.begin(session, 1) == "zero"


def test_resume_finds_the_state(table: SessionTable[str]) -> None:
    advance(table, table.open(ALICE, "vad", "1", "zero"), 1, "one")
    assert table.begin(table.resume(ALICE), 2) == "one"


def test_a_tenant_cannot_have_the_places_of_others_and_gets_its_own_back(clock: Clock) -> None:
    table: SessionTable[str] = SessionTable(clock, 600, limit=4, limit_of_one=2)
    first = table.open(("acme", "1"), "vad", "1", "zero")
    table.open(("acme", "2"), "vad", "1", "zero")
    with pytest.raises(Overloaded, match="2 sessions are open, the limit of one tenant") as refused:
        table.open(("acme", "3"), "vad", "1", "zero")
    assert refused.value.retry_after_s and refused.value.metadata == {"limit": "2"}
    table.open(("acme", "2"), "vad", "1", "anew")  # its own takes no second place
    for name in ("1", "2"):
        table.open(("", name), "vad", "1", "zero")
    with pytest.raises(Overloaded, match="4 sessions are open, the limit of this server"):
        table.open(("umbrella", "1"), "vad", "1", "zero")
    table.close(first)
    with pytest.raises(SessionNotFound):
        table.begin(first, 1)
    table.open(("acme", "3"), "vad", "1", "zero")


def test_unknown_sessions_are_not_found_and_others_are_not_named(table: SessionTable[str]) -> None:
    table.open(BOB, "vad", "1", "zero")
    with pytest.raises(SessionNotFound) as refused:
        table.resume(ALICE)
    assert "bob" not in refused.value.message


def test_tenants_do_not_share_ids(table: SessionTable[str]) -> None:
    table.open(("one", "x"), "vad", "1", "secret")
    with pytest.raises(SessionNotFound):
        table.resume(("two", "x"))


def test_idle_sessions_expire_and_their_state_is_gone(table: SessionTable[str], clock: Clock) -> None:
    session = table.open(ALICE, "vad", "1", "zero")
    clock.now += 599.9
    assert table.expire() == []
    clock.now += 0.1
    assert table.expire() == [session]
    assert (session.state, session.end, len(table)) == (None, End.IDLE, 0)
    with pytest.raises(SessionNotFound):
        table.begin(session, 1)


def test_use_puts_expiry_off_for_the_used_one_only(table: SessionTable[str], clock: Clock) -> None:
    alice, bob = table.open(ALICE, "vad", "1", "a"), table.open(BOB, "vad", "1", "b")
    clock.now += 400
    advance(table, alice, 1, "a1")
    assert (table.idle_left_s(alice), table.idle_left_s(bob)) == (600, 200)
    clock.now += 300
    assert table.expire() == [bob]
    assert table.begin(alice, 2) == "a1"


async def test_a_session_at_work_does_not_expire(table: SessionTable[str], clock: Clock) -> None:
    session = table.open(ALICE, "vad", "1", "zero")
    async with session.turn:
        table.begin(session, 1)
        clock.now += 6000
        assert table.expire() == []
        table.commit(session, "one")
    assert table.begin(session, 2) == "one"


def test_opening_anew_wipes_the_state_and_outdates_old_handles(table: SessionTable[str]) -> None:
    old = table.open(ALICE, "vad", "1", "zero")
    advance(table, old, 1, "one")
    new = table.open(ALICE, "vad", "1", "fresh")
    assert new.generation > old.generation
    assert table.begin(new, 1) == "fresh"
    with pytest.raises(PreconditionFailed, match="opened anew"):
        table.commit(old, "late")
    assert new.state == "fresh"


def test_closing_an_outdated_handle_leaves_the_new_session(table: SessionTable[str]) -> None:
    old, new = table.open(ALICE, "vad", "1", "a"), table.open(ALICE, "vad", "1", "b")
    table.close(old)
    assert table.resume(ALICE) is new
    table.close(new)
    assert (new.end, len(table)) == (End.CLOSED, 0)


def test_a_full_table_says_when_a_place_is_free(table: SessionTable[str], clock: Clock) -> None:
    for name in "abc":
        table.open(("", name), "vad", "1", name)
        clock.now += 10
    with pytest.raises(Overloaded, match="3 sessions") as refused:
        table.open(ALICE, "vad", "1", "zero")
    assert refused.value.retry_after_s == 570
    clock.now += 570
    table.open(ALICE, "vad", "1", "zero")


class Story(RuleBasedStateMachine):
    """Any order of calls: what is live, and every state, equals a plain dictionary's account."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.table: SessionTable[list[int]] = SessionTable(self.clock, idle_s=10, limit=3)
        self.account: dict[str, tuple[list[int], float]] = {}
        self.handles: list[Session[list[int]]] = []

    @rule(name=st.sampled_from("abcd"))
    def open(self, name: str) -> None:
        self._forget_idle()
        others = self.account.keys() - {name}
        if len(others) >= 3:
            with pytest.raises(Overloaded):
                self.table.open(("", name), "m", "1", [])
            return
        self.handles.append(self.table.open(("", name), "m", "1", []))
        self.account[name] = ([], self.clock.now)

    @precondition(lambda self: self.handles)
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        self._forget_idle()
        session = data.draw(st.sampled_from(self.handles))
        if self._current(session):
            state = self.table.begin(session, session.last_step + 1)
            assert state == self.account[session.session_id][0]
            self.table.commit(session, [*state, len(state)])
            self.account[session.session_id] = ([*state, len(state)], self.clock.now)
        else:
            with pytest.raises((SessionNotFound, PreconditionFailed)):
                self.table.begin(session, session.last_step + 1)

    @precondition(lambda self: self.handles)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(self.handles))
        if self._current(session):
            del self.account[session.session_id]
        self.table.close(session)

    @rule(seconds=st.sampled_from([1, 4, 9]))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @invariant()
    def ended_sessions_hold_nothing(self) -> None:
        self._forget_idle()
        self.table.expire()
        assert len(self.table) == len(self.account)
        for session in self.handles:
            assert (session.state is None) == (session.end is not None) == (not self._current(session))

    def _current(self, session: Session[list[int]]) -> bool:
        newest = [one for one in self.handles if one.session_id == session.session_id][-1]
        return session is newest and session.session_id in self.account

    def _forget_idle(self) -> None:
        self.account = {n: (s, used) for n, (s, used) in self.account.items() if self.clock.now - used < 10}


TestStory = Story.TestCase
