"""`maas call` against a real server with honest fakes: what is printed, and what a failure looks like."""

import asyncio
import json
import wave
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.__main__ import app
from cli.client import CallFailed
from cli.ports import any_free
from cli.speech import segments
from maas.generation.v1 import generation_pb2, generation_service_pb2, generation_service_pb2_grpc
from maas.sequence.v1 import sequence_pb2, sequence_service_pb2, sequence_service_pb2_grpc
from maas.tokenization.v1 import tokenization_pb2, tokenization_service_pb2, tokenization_service_pb2_grpc
from services.runtime.errors import InvalidInput, NotFound, Unavailable
from services.runtime.floor import Floor
from services.runtime.settings import ServerSettings
from tests.harness import running

Call = Callable[..., Any]


class Bytes(tokenization_service_pb2_grpc.TokenizationServiceServicer):
    """A byte is a token; long texts are refused."""

    async def Tokenize(self, request: Any, context: Any) -> tokenization_service_pb2.TokenizeResponse:
        await context.send_initial_metadata((("x-maas-cache", "hit-l1"), ("x-maas-cache-age-s", "7")))
        if len(request.texts[0]) > 8:
            raise InvalidInput("texts[0]", "has more than 8 characters; cut it")
        encodings = [tokenization_pb2.Encoding(ids=text.encode(), tokens=list(text)) for text in request.texts]
        served_by = {"model": request.model or "bytes", "version": "1"}
        timing = {"queue_ms": 0.1, "compute_ms": 2.0, "total_ms": 2.1}
        return tokenization_service_pb2.TokenizeResponse(encodings=encodings, served_by=served_by, timing=timing)


class Echo(generation_service_pb2_grpc.GenerationServiceServicer):
    """Says the prompt back, word by word; the temperature it was given on the last message.

    After the word "break" its stream breaks; it goes on where it is resumed.
    """

    def __init__(self) -> None:
        self.words: list[str] = []

    async def GenerateStream(self, request: Any, context: Any) -> AsyncIterator[Any]:
        if request.HasField("resume"):
            assert request.resume.stream_id == "mine"
        else:
            self.words = (request.text or request.chat.messages[-1].content).split()
        for number, word in enumerate(self.words, start=1):
            if number <= request.resume.after_sequence_number:
                continue
            yield generation_service_pb2.GenerateStreamResponse(
                sequence_number=number, text_delta=f"{word} ", stream_id="mine" if number == 1 else ""
            )
            if word == "break":
                raise Unavailable("draining")

    async def Generate(self, request: Any, context: Any) -> generation_service_pb2.GenerateResponse:
        given = request.sampling.temperature if request.sampling.HasField("temperature") else None
        completion = generation_pb2.Completion(text=f"temperature {given}, stop {list(request.stopping.stop)}")
        return generation_service_pb2.GenerateResponse(completions=[completion])


class Loud(sequence_service_pb2_grpc.SequenceServiceServicer):
    """Speech is a frame whose first sample is loud."""

    async def RunSession(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            if request.HasField("open"):
                yield sequence_service_pb2.RunSessionResponse(opened=sequence_pb2.SessionStatus(session_id="s"))
            elif request.HasField("step"):
                assert len(request.step.series.values) == 512
                score = float(request.step.series.values[0] > 0.1)
                output = sequence_pb2.StepOutput(step=request.step.step, scores=[score])
                yield sequence_service_pb2.RunSessionResponse(output=output)


async def build(floor: Floor[ServerSettings]) -> None:
    floor.add(tokenization_service_pb2_grpc.add_TokenizationServiceServicer_to_server, Bytes())
    floor.add(generation_service_pb2_grpc.add_GenerationServiceServicer_to_server, Echo())
    floor.add(sequence_service_pb2_grpc.add_SequenceServiceServicer_to_server, Loud())


@pytest.fixture
async def call() -> AsyncIterator[Call]:
    port = any_free("127.0.0.1")
    async with running(ServerSettings(port=port, lame_duck_s=0, drain_s=1), build):
        address = f"127.0.0.1:{port}"

        async def invoke(*arguments: str) -> Result:
            return await asyncio.to_thread(
                CliRunner().invoke, app, ["call", *arguments, "--address", address, "--timeout", "10"]
            )

        yield invoke


async def test_a_command_prints_the_answer_and_how_it_went(call: Call) -> None:
    result = await call("tokenize", "abc")
    assert result.stdout.splitlines() == ["[97, 98, 99]", '["a", "b", "c"]']
    assert "bytes/1 · cache hit-l1, 7 s old · queue 0.1 ms, compute 2.0 ms" in result.stderr


async def test_json_is_the_reply_with_the_contracts_names(call: Call) -> None:
    told = json.loads((await call("--json", "tokenize", "a", "--model", "mine")).stdout)
    assert told["encodings"] == [{"ids": [97], "tokens": ["a"]}] and told["served_by"]["model"] == "mine"


async def test_a_failure_carries_status_field_and_request_id(call: Call) -> None:
    error = (await call("tokenize", "a long text")).exception
    assert isinstance(error, CallFailed) and error.status.code == 3 and error.request_id
    assert "texts[0]: has more than 8 characters" in error.status.message


async def test_options_that_are_not_given_stay_unset(call: Call) -> None:
    assert (await call("generate", "x")).stdout == "temperature None, stop []\n"
    assert (
        await call("generate", "x", "--temperature", "0", "--stop", "b")
    ).stdout == "temperature 0.0, stop ['b']\n"


async def test_a_stream_is_printed_as_it_comes(call: Call) -> None:
    assert (await call("generate", "--stream", "--chat", "one two three")).stdout == "one two three \n"


async def test_a_stream_that_breaks_is_resumed(call: Call) -> None:
    result = await call("generate", "--stream", "one break two break three")
    assert result.stdout == "one break two break three \n"


async def test_a_stream_that_stays_broken_fails(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.generate.PAUSES_S", ())
    result = await call("generate", "--stream", "one break two")
    assert isinstance(result.exception, CallFailed) and result.exception.status.message == "draining"


async def test_any_method_by_name_in_every_shape(call: Call) -> None:
    unary = await call("TokenizationService/Tokenize", '{"texts": ["a"]}')
    assert json.loads(unary.stdout)["encodings"][0]["ids"] == [97]
    stream = await call("maas.generation.v1.GenerationService/GenerateStream", '{"text": "a b"}')
    assert stream.stdout.count("text_delta") == 2
    session = await call("SequenceService/RunSession", '[{"open": {}}, {"close": true}]')
    assert '"session_id": "s"' in session.stdout


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (("TokenizationService/Nope",), NotFound, "available: CountTokens"),
        (("NopeService/Tokenize",), NotFound, "maas.vision.v1.VisionService"),
        (("TokenizationService/Tokenize", "{"), InvalidInput, "TokenizeRequest"),
        (("TokenizationService/Tokenize", '{"nope": 1}'), InvalidInput, "nope"),
        (("TokenizationService/Tokenize", "5"), InvalidInput, "must be a JSON object, not 5"),
        (("TokenizationService/Tokenize", "null"), InvalidInput, "must be a JSON object, not null"),
        (("TokenizationService/Tokenize", "[{}, {}]"), InvalidInput, "exactly one message, got 2"),
    ],
)
async def test_a_bad_method_or_request_is_told_before_any_call(
    call: Call, arguments: tuple[str, ...], kind: type[Exception], text: str
) -> None:
    error = (await call(*arguments)).exception
    assert isinstance(error, kind) and text in str(error)


async def test_vad_prints_the_stretches_of_speech(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    loud, quiet = b"\x00\x40" * 512, bytes(1024)
    write_wav(path, quiet * 10 + loud * 5 + quiet * 3 + loud[:100])
    lines = (await call("vad", str(path))).stdout.splitlines()
    assert lines == [
        "    0.32 s –     0.48 s  speech",
        "    0.58 s –     0.61 s  speech",
        "6 of 19 frames are speech",
    ]
    write_wav(path, quiet, rate=8000)
    error = (await call("vad", str(path))).exception
    assert isinstance(error, InvalidInput) and "8000 Hz" in str(error)


def write_wav(path: Path, content: bytes, rate: int = 16_000) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(content)


def test_segments_touch_both_ends() -> None:
    assert segments([0.9, 0.1, 0.5], 0.5) == [(0.0, 0.032), (0.064, 0.096)]
    assert segments([], 0.5) == []


async def test_nobody_there_is_unavailable() -> None:
    arguments = ["call", "tokenize", "x", "--address", "127.0.0.1:1", "--timeout", "5"]
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert isinstance(result.exception, CallFailed) and result.exception.status.code == 14
