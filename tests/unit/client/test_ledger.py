"""What a session owes and keeps, by the contract's words."""

import pytest

from maas.common.v1 import tensor_pb2
from maas.sequence.v1 import sequence_pb2 as pb
from maas_client.errors import MaasError, NotFound
from maas_client.ledger import AHEAD, Ledger

STATUS = pb.SessionStatus(session_id="s", generation=1)


def begun(steps: int, most_kept: int = 1000, **opening: object) -> Ledger:
    ledger = Ledger(pb.OpenSession(**opening), most_kept)  # type: ignore[arg-type]
    ledger.welcome(STATUS)
    for number in range(1, steps + 1):
        assert ledger.add(tensor_pb2.Series(values=[number])) == number
    return ledger


def sent(ledger: Ledger) -> list[int]:
    found = list(ledger.unsent())
    assert all(step.series.values[0] == step.step for step in found)
    return [step.step for step in found]


def hear(ledger: Ledger, *numbers: int, safe: int | None = None) -> list[int]:
    outputs = (ledger.take(pb.StepOutput(step=n, scores=[0.5], checkpointed_step=safe)) for n in numbers)
    return [output.step for output in outputs if output is not None]


def resumed(last_step: int, safe: int | None = None) -> pb.SessionStatus:
    return pb.SessionStatus(session_id="s", generation=2, last_step=last_step, checkpointed_step=safe)


def test_so_many_steps_are_under_way_and_no_more() -> None:
    ledger = begun(AHEAD + 5)
    assert sent(ledger) == list(range(1, AHEAD + 1)) and sent(ledger) == []
    assert hear(ledger, 1, 2) == [1, 2]
    assert sent(ledger) == [AHEAD + 1, AHEAD + 2]


def test_after_a_break_what_the_server_lost_is_sent_again() -> None:
    ledger = begun(10)
    sent(ledger)
    assert hear(ledger, 1, 2, 3, 4, 5, 6, safe=4) == [1, 2, 3, 4, 5, 6]
    again = ledger.opening()
    assert (again.session_id, again.resume, again.checkpointed_step) == ("s", True, 4)
    ledger.welcome(resumed(4, 4))
    assert sent(ledger) == [5, 6, 7, 8, 9, 10]
    assert hear(ledger, 5, 6, 7) == [7], "told twice, heard once"


def test_what_was_computed_and_never_heard_is_asked_for_again() -> None:
    ledger = begun(10)
    sent(ledger)
    hear(ledger, 1, 2, 3, safe=3)
    ledger.welcome(resumed(8, 8))
    assert sent(ledger) == [4, 5, 6, 7, 8, 9, 10]


def test_inputs_are_forgotten_once_they_are_heard_and_kept() -> None:
    ledger = begun(3)
    sent(ledger)
    hear(ledger, 1, 2, safe=2)
    ledger.welcome(resumed(1, 1))  # a server that breaks its word
    with pytest.raises(NotFound, match="step 2"):
        sent(ledger)


def test_a_lost_session_is_made_anew_while_all_inputs_are_here() -> None:
    lost = NotFound("gone")
    lost.reason = "SESSION_NOT_FOUND"
    ledger = begun(4)
    sent(ledger)
    hear(ledger, 1, 2)
    ledger.begin_anew(lost)
    assert not ledger.opening().resume
    ledger.welcome(resumed(0))
    assert sent(ledger) == [1, 2, 3, 4] and hear(ledger, 1, 2, 3) == [3]
    assert ledger.opening().resume


@pytest.mark.parametrize("why", ["forgotten", "kept", "another's", "other"])
def test_a_lost_session_that_cannot_be_made_anew_is_told(why: str) -> None:
    lost = NotFound("gone") if why != "other" else MaasError("no")
    lost.reason = "SESSION_NOT_FOUND"
    ledger = begun(4, 3 if why == "forgotten" else 1000, resume=why == "another's", session_id="s")
    sent(ledger)
    hear(ledger, 1, 2, safe=1 if why == "kept" else None)
    ledger.add(tensor_pb2.Series(values=[5]))
    with pytest.raises(type(lost), match=lost.message):
        ledger.begin_anew(lost)


def test_a_resumed_session_goes_on_counting() -> None:
    ledger = Ledger(pb.OpenSession(session_id="s", resume=True))
    assert ledger.opening().resume
    ledger.welcome(resumed(41, 41))
    assert (ledger.last_step, ledger.add(tensor_pb2.Series(values=[42]))) == (41, 42)
    assert sent(ledger) == [42]
