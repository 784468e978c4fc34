"""The line of a call: what stands in it, and how many are written under load."""

import logging

import pytest

from services.runtime.context import RequestContext
from services.runtime.errors import InvalidInput, Overloaded
from services.runtime.telemetry.access import AccessLog, Ration


def ended(log: AccessLog, *ends: object) -> None:
    for end in ends:
        call = RequestContext(method="/maas.area.v1.Service/Do", request_id="one", received=7, sent=9)
        log.ended(call, "OK" if end is None else "SOME", end)  # type: ignore[arg-type]


def test_so_many_a_second_and_the_next_says_how_many_were_left_out() -> None:
    ration = Ration(2)
    assert [ration.take(now) for now in (1.0, 1.1, 1.2, 1.9)] == [0, 0, None, None]
    assert [ration.take(now) for now in (2.5, 2.6, 2.7)] == [2, 0, None]
    assert Ration(0).take(5.0) is None


def test_answers_do_not_crowd_out_refusals(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "maas.call")
    ended(AccessLog(3), *[None] * 10, *[Overloaded("full")] * 5)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["call"] * 3 + ["refused"] * 3


def test_a_line_tells_sizes_time_and_reason_and_no_word_of_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "maas.call")
    ended(
        AccessLog(9),
        None,
        Overloaded("the queue is full", reason="QUEUE_FULL"),
        InvalidInput("a[secret].b", "secret"),
    )
    answered, refused, wrong = (vars(record) for record in caplog.records)
    assert (answered["method"], answered["status"]) == ("/maas.area.v1.Service/Do", "OK")
    assert (answered["received"], answered["sent"]) == (7, 9) and answered["ms"] >= 0
    assert (refused["reason"], refused["error"]) == ("QUEUE_FULL", "the queue is full")
    assert wrong["fields"] == ["a[…].b"] and "secret" not in str(wrong)


def test_whose_level_is_higher_writes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "maas.call")
    ended(AccessLog(9), None, Overloaded("full"))
    assert not caplog.records
