"""Log lines: JSON whatever is logged, redacted in every field, and silent on what a caller sent."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from maas.generation.v1 import generation_service_pb2
from maas.tokenization.v1 import tokenization_service_pb2
from maas.vision.v1 import vision_service_pb2
from services.runtime import bodies, context
from services.runtime.logs import MOST, JsonFormatter
from services.runtime.redaction import redact

CANARY = "canary-3f9c"


@contextmanager
def logger(
    redactor: Any = redact, told: bool = False, name: str = "test.logs"
) -> Iterator[tuple[logging.Logger, Any]]:
    """A logger, and what reads the object it wrote last."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter("tests", redactor, told))
    log = logging.getLogger(name)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield log, lambda: json.loads(written.getvalue().splitlines()[-1])
    finally:
        log.removeHandler(handler)
        context.enter(context.RequestContext())


def test_every_text_is_redacted_and_every_number_kept():
    with logger() as (log, last):
        extra = {
            "to": "alice@example.com",
            "n": 4111111111111111,
            "deep": {"10.1.2.3": ["10.1.2.3", 1, None, True]},
        }
        log.info("mail for %s", "alice@example.com", extra=extra)
        line = last()
    assert line["message"] == "mail for [EMAIL]" and line["to"] == "[EMAIL]"
    assert line["n"] == 4111111111111111 and line["deep"] == {"[IP]": ["[IP]", 1, None, True]}


def test_exceptions_are_redacted_and_keep_their_frames():
    with logger() as (log, last):
        try:
            raise ValueError("no card 4111 1111 1111 1111")
        except ValueError:
            log.exception("failed")
        told = last()["exception"]
    assert "ValueError: no card [CARD]" in told and "test_exceptions_are_redacted" in told


def test_inside_a_call_an_exception_is_told_by_its_frames():
    for told in (False, True):
        with logger(told=told) as (log, last):
            context.enter(context.RequestContext(method="/x/Y", request_id="abc-1"))
            try:
                try:
                    raise KeyError(CANARY)
                except KeyError as error:
                    raise ValueError(f"bad {CANARY}") from error
            except ValueError:
                log.exception("failed")
            line = last()
        assert (CANARY in json.dumps(line)) is told
        assert (
            line["request_id"] == "abc-1" and "KeyError" in line["exception"] and "ValueError" in line["exception"]
        )
        assert "test_inside_a_call" in line["exception"]


def test_asyncios_words_for_a_lost_error_do_not_repeat_it():
    with logger(name="asyncio") as (log, last):
        log.error(f"Task exception was never retrieved\nfuture: <Task exception=ValueError({CANARY!r})>")
        assert last()["message"] == "Task exception was never retrieved"


def test_a_record_that_cannot_be_told_repeats_nothing():
    record = logging.LogRecord("x", logging.INFO, "/a/b.py", 7, "%d rows", (CANARY,), None)
    line = json.loads(JsonFormatter("tests", redact).format(record))
    assert line["message"] == "a record could not be told: TypeError" and line["at"] == "b:7"
    assert CANARY not in json.dumps(line)


def test_without_a_redactor_texts_are_as_they_are():
    with logger(None) as (log, last):
        log.info("mail for alice@example.com")
        assert last()["message"] == "mail for alice@example.com"


def test_ids_digests_and_names_stay_readable():
    with logger() as (log, last):
        context.enter(context.RequestContext(method="/x/Y", request_id="0123456789abcdef0123456789abcdef"))
        extra = {"digest": "sha256:" + "12ab" * 16, "model": "smollm2-135m-instruct", "address": "127.0.0.1:50051"}
        log.info("served", extra=extra)
        line = last()
    assert {key: line[key] for key in extra} == extra and line["request_id"] == "0123456789abcdef0123456789abcdef"


def test_a_huge_text_is_cut():
    with logger() as (log, last):
        log.info("x " * 100_000)
        assert len(last()["message"]) <= MOST


def body(message: Any) -> str:
    return bodies.told(message, redact)


def test_a_body_shows_texts_redacted_and_counts_the_rest():
    request = generation_service_pb2.GenerateRequest(
        model="m", text="ask alice@example.com", sampling={"top_k": 3}
    )
    request.stopping.stop.extend(["a", "b"])
    request.stopping.stop_token_ids.extend([7, 8])
    told = body(request)
    assert 'text: "ask [EMAIL]"' in told and "top_k: 3" in told and 'stop: "a" stop: "b"' in told
    assert "stop_token_ids: <2 values>" in told
    # Ids spell a text.
    assert "7" not in body(generation_service_pb2.GenerateRequest(token_ids={"values": [7, 7]}))
    assert (
        body(vision_service_pb2.ClassifyRequest(images=[{"encoded": b"1234"}])) == "images { encoded: <4 bytes> }"
    )
    assert body(b"12") == "<2 bytes>" and body(None) == ""


@pytest.mark.parametrize("request_", [["x" * 10_000_000], ["y " * 900] * 256, ["a@b.co"] * 256])
def test_a_body_is_bounded(request_: list[str]):
    told = body(tokenization_service_pb2.TokenizeRequest(texts=request_))
    assert len(told) <= bodies.MOST and "a@b.co" not in told


@pytest.mark.parametrize("between", ["\n", "\t", "\r\n", "\x01"])
@pytest.mark.parametrize(
    "personal", ["415-555-2671", "4111 1111 1111 1111", "203.0.113.9", "536-90-4399", "a@b.co"]
)
def test_a_body_of_several_lines_is_redacted_in_each(between: str, personal: str):
    told = body(tokenization_service_pb2.TokenizeRequest(texts=[f"call{between}{personal}"]))
    assert personal not in told and told.startswith('texts: "call ')


def test_an_error_that_nobody_caught_is_a_line_too():
    script = (
        "from services.runtime import logs, redaction\n"
        "logs.configure('tests', 'info', redaction.redact)\n"
        "import threading, warnings\n"
        "class Broken:\n"
        "    def __del__(self): raise ValueError('of alice@example.com')\n"
        "warnings.warn('from alice@example.com')\n"
        "Broken()\n"
        "thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()\n"
        "raise ValueError('to alice@example.com')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    warned, unraised, thread, last = (json.loads(line) for line in done.stderr.splitlines())
    assert "UserWarning: from [EMAIL]" in warned["message"]
    assert (
        unraised["message"] == "unraisable"
        and "__del__" in unraised["exception"]
        and "alice" not in unraised["exception"]
    )
    assert done.returncode == 1 and "ZeroDivisionError" in thread["exception"]
    assert last["message"] == "uncaught" and "ValueError: to [EMAIL]" in last["exception"]
