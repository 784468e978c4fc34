"""Which replica takes the next call."""

from contextlib import ExitStack
from unittest.mock import Mock

from gateway.backends import SERVING, UNREACHABLE, Backend, Replica
from gateway.standing import FAULTS_IN_A_ROW, Standing


def backend(*names: str) -> Backend:
    found = Backend("vision")
    found.consist_of([Replica(name, Mock(), SERVING) for name in names])
    return found


def carry(found: Backend, count: int) -> str:
    """The replicas that take `count` calls, one after another."""
    taken = []
    for _ in range(count):
        replica = found.pick()
        with replica.carrying():
            taken.append(replica.address)
    return "".join(taken)


def leave_out(replica: Replica) -> None:
    for _ in range(FAULTS_IN_A_ROW):
        replica.standing.fault()


def test_idle_replicas_take_turns():
    assert carry(backend("a", "b", "c"), 6) == "abcabc"


def test_a_replica_that_returns_has_nothing_to_catch_up_on():
    found = backend("a", "b")
    first = found.replicas[0]
    found.told(first, UNREACHABLE)
    assert carry(found, 100) == "b" * 100
    found.told(first, SERVING)
    first.standing = Standing()
    assert carry(found, 6) == "ababab"


def test_a_fresh_replica_takes_its_share_of_what_is_in_flight():
    found = backend("a", "b")
    found.told(found.replicas[0], UNREACHABLE)
    found.told(found.replicas[0], SERVING)
    with ExitStack() as calls:
        for _ in range(22):
            calls.enter_context(found.pick().carrying())
        assert [replica.in_flight for replica in found.replicas] == [2, 20]


def test_who_keeps_failing_gets_no_calls_while_others_can():
    found = backend("a", "b", "c")
    leave_out(found.replicas[0])
    assert carry(found, 4) == "bcbc"
    assert found.pick(found.replicas[1:]).address == "a"


def test_where_most_keep_failing_it_is_not_they():
    found = backend("a", "b", "c")
    for replica in found.replicas[:2]:
        leave_out(replica)
    assert carry(found, 6) == "abcabc"


def test_least_in_flight_comes_before_longest_idle():
    found = backend("a", "b")
    with found.pick().carrying():
        assert carry(found, 3) == "bbb"


def test_a_replica_is_free_when_nobody_holds_its_channel():
    (replica,) = backend("a").replicas
    with replica.held(), replica.carrying():
        assert not replica.free.is_set() and (replica.calls, replica.in_flight) == (1, 1)
    assert replica.free.is_set() and replica.in_flight == 0


def test_a_replica_that_is_no_member_is_not_picked_and_the_change_is_told():
    told: list[list[str]] = []
    found = Backend("vision", lambda changed: told.append([one.address for one in changed.healthy]))
    a, b = Replica("a", Mock(), SERVING), Replica("b", Mock(), SERVING)
    found.consist_of([a, b])
    found.consist_of([b])
    found.consist_of([b])
    assert carry(found, 3) == "bbb" and told == [["a", "b"], ["b"]]
