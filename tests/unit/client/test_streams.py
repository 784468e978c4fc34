"""A stream of text that breaks: what is asked for next, and what the caller has already."""

from typing import Any

import pytest

from maas.generation.v1 import generation_service_pb2 as pb
from maas_client.errors import DeadlineExceeded, FailedPrecondition, MaasError, Unavailable
from maas_client.patience import PAUSES_S
from maas_client.streams import Progress


def message(number: int, text: str, index: int = 0, **more: Any) -> pb.GenerateStreamResponse:
    stream_id = "a-stream" if number == 1 else ""
    ids = [ord(letter) for letter in text]
    return pb.GenerateStreamResponse(
        sequence_number=number, index=index, text_delta=text, token_ids=ids, stream_id=stream_id, **more
    )


def begun(*texts: str) -> Progress:
    progress = Progress(pb.GenerateStreamRequest(text="x"), 60)
    for number, text in enumerate(texts, 1):
        assert progress.take(message(number, text)).text == text
    return progress


def test_it_goes_on_after_the_last_message() -> None:
    progress = begun("ab", "c")
    assert progress.pause_s(Unavailable("gone")) == PAUSES_S[0]
    assert progress.request == pb.GenerateStreamRequest(
        resume={"stream_id": "a-stream", "after_sequence_number": 2}
    )
    assert progress.pause_s(Unavailable("gone")) == PAUSES_S[1]
    progress.take(message(3, "d"))
    assert progress.pause_s(Unavailable("gone")) == PAUSES_S[0], "progress renews patience"
    assert not progress.ended
    progress.take(message(4, "", usage={}))
    assert progress.ended


def test_the_server_s_wish_to_be_left_alone_is_honoured() -> None:
    error = Unavailable("loading")
    error.retry_after_s = 1.5
    assert begun("a").pause_s(error) == 1.5


def test_what_does_not_pass_is_raised() -> None:
    for progress, error in (
        (begun(), Unavailable("nothing came: nothing to go on with")),
        (begun("a"), MaasError("another kind")),
    ):
        with pytest.raises(type(error), match=error.message):
            progress.pause_s(error)
    patient = begun("a")
    for _ in PAUSES_S:
        patient.pause_s(Unavailable("gone"))
    with pytest.raises(Unavailable):
        patient.pause_s(Unavailable("gone"))


def test_where_the_record_ends_earlier_nothing_is_heard_twice() -> None:
    progress = Progress(pb.GenerateStreamRequest(text="x"), 60)
    heard = [progress.take(message(1, "ab")), progress.take(message(2, "cd")), progress.take(message(3, "XY", 1))]
    ends = FailedPrecondition("the record ends")
    ends.reason, ends.metadata = "RECORD_ENDS", {"last_sequence_number": "1"}
    progress.pause_s(ends)
    assert progress.request.resume.after_sequence_number == 1
    heard += [
        progress.take(message(2, "c")),
        progress.take(message(3, "def")),
        progress.take(message(4, "XYZ", 1)),
    ]
    assert "".join(told.text for told in heard if told.index == 0) == "abcdef"
    assert "".join(told.text for told in heard if told.index == 1) == "XYZ"
    assert [chr(one) for told in heard if told.index == 0 for one in told.token_ids] == list("abcdef")
    progress.pause_s(Unavailable("gone"))
    assert progress.request.resume.after_sequence_number == 4


def test_a_stream_has_one_deadline_over_all_its_breaks() -> None:
    progress = Progress(pb.GenerateStreamRequest(text="x"), 0.0)
    progress.take(message(1, "a"))
    with pytest.raises(DeadlineExceeded):
        progress.pause_s(Unavailable("gone"))
