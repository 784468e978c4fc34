"""`maas call vad`: a WAV file through a session, frame by frame; prints where somebody speaks."""

import array
import itertools
import sys
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, cast

import typer

from cli import calling
from cli.client import Answer
from maas.common.v1 import tensor_pb2
from maas.sequence.v1 import sequence_pb2, sequence_service_pb2
from services.runtime.errors import InvalidInput

METHOD = "maas.sequence.v1.SequenceService/RunSession"
RATE_HZ, FRAME = 16_000, 512
FRAME_S = FRAME / RATE_HZ


def vad(
    context: typer.Context,
    wav: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="16 kHz, 16 bit WAV.")],
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Probability that counts as speech.")] = 0.5,
    model: Annotated[str, typer.Option(show_default=False)] = "",
) -> None:
    """Audio → the stretches where somebody speaks."""
    samples = read_wav(wav)
    options, answer = calling.of(context), Answer()
    with options.client() as client:
        for _ in client.stream(METHOD, messages(samples, model), answer):
            pass
    replies = cast("list[sequence_service_pb2.RunSessionResponse]", answer.replies)
    scores = [score for reply in replies for score in reply.output.scores]
    options.finish(answer, lambda _: show(scores, threshold))


def read_wav(path: Path) -> "array.array[float]":
    """Samples in -1 … 1, channels averaged. InvalidInput says what the file is and what it must be."""
    try:
        with wave.open(str(path)) as file:
            rate, width, channels = file.getframerate(), file.getsampwidth(), file.getnchannels()
            content = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise InvalidInput("wav", f"{path} is not a PCM WAV file: {error}") from error
    if (rate, width) != (RATE_HZ, 2):
        raise InvalidInput("wav", f"{path} has {rate} Hz, {8 * width} bit; convert it to {RATE_HZ} Hz, 16 bit")
    values = array.array("h", content)
    if sys.byteorder == "big":
        values.byteswap()
    averages = (sum(values[at : at + channels]) / channels for at in range(0, len(values), channels))
    return array.array("f", (average / 32768 for average in averages))


def messages(samples: Sequence[float], model: str) -> Iterator[sequence_service_pb2.RunSessionRequest]:
    """Open, a frame a step (the last filled up with silence), close."""
    request = sequence_service_pb2.RunSessionRequest
    yield request(open=sequence_pb2.OpenSession(model=model, sample_rate_hz=RATE_HZ))
    for number, start in enumerate(range(0, len(samples), FRAME), 1):
        part = list(samples[start : start + FRAME])
        part += [0.0] * (-len(part) % FRAME)
        series = tensor_pb2.Series(values=part)
        yield request(step=sequence_pb2.SessionStep(step=number, series=series))
    yield request(close=True)


def segments(scores: Sequence[float], threshold: float) -> list[tuple[float, float]]:
    """(start, end) in seconds of each run of frames at or over the threshold."""
    found, at = [], 0
    for speech, run in itertools.groupby(scores, lambda score: score >= threshold):
        length = len(list(run))
        if speech:
            found.append((at * FRAME_S, (at + length) * FRAME_S))
        at += length
    return found


def show(scores: Sequence[float], threshold: float) -> None:
    """One line a stretch, and the share of speech."""
    for start, end in segments(scores, threshold):
        print(f"{start:8.2f} s – {end:8.2f} s  speech")
    speech = sum(score >= threshold for score in scores)
    print(f"{speech} of {len(scores)} frames are speech")
