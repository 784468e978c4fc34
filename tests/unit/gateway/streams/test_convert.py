"""A stream and a unary call as each other: on the way from one to the other nothing is lost, or it is not gone."""

import pytest

from gateway.cache_key import cache_key
from gateway.streams.convert import joined, replayed, unary
from gateway.streams.replay_id import key_of, replay_id
from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1 import generation_service_pb2 as service_pb

UNKNOWN = b"\xa8\x46\x01"
ANSWER = service_pb.GenerateResponse(
    completions=[
        {"index": 0, "text": "ab", "token_ids": [1, 2], "finish_reason": pb.FINISH_REASON_EOS},
        {
            "index": 1,
            "text": "c",
            "token_ids": [3],
            "finish_reason": pb.FINISH_REASON_STOP,
            "stop_match": {"text": "c"},
            "logprobs": [{"chosen": {"token_id": 3, "logprob": -0.5}}],
            "cumulative_logprob": -0.1,
        },
    ],
    usage={"prompt_tokens": 4, "completion_tokens": 3, "cached_prompt_tokens": 2},
    seed=9,
    prompt_logprobs=[{"chosen": {"token_id": 7}}],
    served_by={"model": "m", "version": "1", "digest": "d"},
    timing={"total_ms": 3},
)


def test_a_stream_asks_by_the_same_fields_as_a_unary_call() -> None:
    def fields(kind: type[service_pb.GenerateRequest] | type[service_pb.GenerateStreamRequest]) -> set[object]:
        made = kind.DESCRIPTOR.fields
        return {
            (f.name, f.number, f.type, f.is_repeated, f.message_type and f.message_type.full_name) for f in made
        }

    resume = {name for name, *_ in fields(service_pb.GenerateStreamRequest) - fields(service_pb.GenerateRequest)}
    assert resume == {"resume"} and fields(service_pb.GenerateRequest) < fields(service_pb.GenerateStreamRequest)


def test_every_field_of_a_message_has_its_place_in_the_answer() -> None:
    """Whoever adds a field here must carry it over in `convert.py`, or else streams lose it."""
    assert {field.name for field in service_pb.GenerateStreamResponse.DESCRIPTOR.fields} == {
        *(
            "sequence_number",
            "index",
            "text_delta",
            "token_ids",
            "logprobs",
            "finish_reason",
            "stop_match",
            "usage",
        ),
        *("stream_id", "seed", "prompt_logprobs", "served_by", "timing", "cumulative_logprob"),
    }
    assert {field.name for field in service_pb.GenerateResponse.DESCRIPTOR.fields} == {
        *("completions", "usage", "seed", "prompt_logprobs", "served_by", "timing")
    }
    assert {field.name for field in pb.Completion.DESCRIPTOR.fields} == {
        *("index", "text", "token_ids", "finish_reason", "stop_match", "logprobs", "cumulative_logprob")
    }


def test_what_is_replayed_joins_to_the_answer() -> None:
    messages = replayed(ANSWER.SerializeToString(), "id")
    assert messages is not None and joined(messages) == ANSWER
    told = [service_pb.GenerateStreamResponse.FromString(message) for message in messages]
    assert [one.sequence_number for one in told] == [1, 2] and [one.stream_id for one in told] == ["id", ""]
    assert [one.HasField("usage") for one in told] == [False, True]


@pytest.mark.parametrize("missing", [0, 1], ids=["the first", "the last"])
def test_a_stream_that_is_not_whole_is_no_answer(missing: int) -> None:
    messages = replayed(ANSWER.SerializeToString(), "id") or []
    assert joined(messages[:missing] + messages[missing + 1 :]) is None


def test_a_completion_without_an_end_is_no_answer() -> None:
    endless = service_pb.GenerateResponse.FromString(ANSWER.SerializeToString())
    endless.completions[0].ClearField("finish_reason")
    assert joined(replayed(endless.SerializeToString(), "id") or []) is None


def test_what_this_build_does_not_know_is_not_lost() -> None:
    messages = replayed(ANSWER.SerializeToString(), "id") or []
    assert joined([messages[0] + UNKNOWN, messages[1]]) is None
    assert replayed(ANSWER.SerializeToString() + UNKNOWN, "id") is None
    asked = service_pb.GenerateStreamRequest.FromString(b"\x1a\x01x" + UNKNOWN)
    request = unary(asked)
    assert request is not None and request.SerializeToString() == asked.SerializeToString()


def test_no_unary_request_means_a_resumed_stream_or_a_choice() -> None:
    assert unary(service_pb.GenerateStreamRequest(resume={"stream_id": "x"})) is None
    assert unary(service_pb.GenerateStreamRequest(text="x", sampling={"best_of": 2})) is None
    assert unary(service_pb.GenerateStreamRequest(text="x", sampling={"n": 2, "best_of": 2})) is not None
    assert unary(service_pb.GenerateStreamRequest(text="x", sampling={"num_beams": 2, "best_of": 2})) is not None


def test_an_id_of_a_replay_leads_to_its_answer_for_its_tenant_alone() -> None:
    key = cache_key("/s/Generate", "m", "d", "tenant", b"content")
    named = replay_id(key)
    assert len(named) <= 128 and key_of(named, "tenant") == key
    assert key_of(named, "other") != key and key_of("a-service's_id", "tenant") is None
