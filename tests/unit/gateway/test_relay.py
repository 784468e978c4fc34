"""What a service's error says of its replica, and of trying again."""

import pytest
from grpc import StatusCode, aio

from gateway.relay import blames, forbids_retries
from services.runtime.status import DETAILS_KEY, PUSHBACK_KEY


def error(code: StatusCode, **trailing: str | bytes) -> aio.AioRpcError:
    keys = {"details": DETAILS_KEY, "pushback": PUSHBACK_KEY}
    return aio.AioRpcError(code, aio.Metadata(), aio.Metadata(*((keys[k], v) for k, v in trailing.items())))


@pytest.mark.parametrize(
    ("code", "silent", "told"),
    [
        (StatusCode.UNAVAILABLE, True, False),
        (StatusCode.DEADLINE_EXCEEDED, True, False),
        (StatusCode.INTERNAL, True, True),
        (StatusCode.UNKNOWN, True, True),
        (StatusCode.RESOURCE_EXHAUSTED, False, False),
        (StatusCode.CANCELLED, False, False),
        (StatusCode.NOT_FOUND, False, False),
    ],
)
def test_who_is_to_blame(code: StatusCode, silent: bool, told: bool) -> None:
    assert (blames(error(code)), blames(error(code, details=b"rich"))) == (silent, told)


@pytest.mark.parametrize(("pushback", "forbidden"), [("0", False), ("1500", False), ("-1", True), ("soon", True)])
def test_a_pushback_that_is_no_time_forbids_retries(pushback: str, forbidden: bool) -> None:
    assert forbids_retries(error(StatusCode.UNAVAILABLE, pushback=pushback)) == forbidden
    assert not forbids_retries(error(StatusCode.UNAVAILABLE))
