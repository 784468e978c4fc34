"""How a stream to a service really ended, where the library tells of a failed write first."""

from collections.abc import Sequence

import pytest
from grpc import StatusCode, aio

from gateway import ending

SAID = StatusCode.INVALID_ARGUMENT, "ids: outside the vocabulary"


class Ended:
    """A call whose status is asked for; each answer is the next of `statuses`, then the last for ever."""

    def __init__(self, statuses: Sequence[tuple[StatusCode, str]]) -> None:
        self._statuses, self.asked = statuses, 0

    async def code(self) -> StatusCode:
        self.asked += 1
        return self._status[0]

    async def details(self) -> str:
        return self._status[1]

    async def trailing_metadata(self) -> aio.Metadata:
        return aio.Metadata(("grpc-status-details-bin", b"rich"))

    @property
    def _status(self) -> tuple[StatusCode, str]:
        return self._statuses[min(self.asked, len(self._statuses)) - 1]


def error(code: StatusCode, details: str) -> aio.AioRpcError:
    return aio.AioRpcError(code, None, None, details)


async def test_a_failed_write_waits_for_the_status_that_explains_it() -> None:
    end = await ending.settled(Ended([ending.LOST, ending.LOST, SAID]), error(*ending.LOST))
    assert (end.code(), end.details()) == SAID
    assert dict(end.trailing_metadata()) == {"grpc-status-details-bin": b"rich"}


@pytest.mark.parametrize("code", [StatusCode.OK, StatusCode.INTERNAL, StatusCode.UNAVAILABLE])
async def test_every_other_end_is_what_it_is(code: StatusCode) -> None:
    stream, end = Ended([SAID]), error(code, "its own words")
    assert await ending.settled(stream, end) is end and not stream.asked


async def test_the_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "LOST_WAIT_S", 0)
    stream = Ended([ending.LOST])
    end = await ending.settled(stream, error(*ending.LOST))
    assert (end.code(), end.details()) == ending.LOST and stream.asked == ending.LOST_TRIES
