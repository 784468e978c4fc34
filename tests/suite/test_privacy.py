"""What callers say stays out of logs and out of Redis, in the suite as a person starts it.

Each service is called directly and through the gateway, well and badly; some errors repeat the caller's words.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis

from maas.gateway.v1 import gateway_service_pb2, gateway_service_pb2_grpc
from maas.generation.v1 import generation_service_pb2, generation_service_pb2_grpc
from maas.sequence.v1 import sequence_service_pb2, sequence_service_pb2_grpc
from maas.tokenization.v1 import tokenization_service_pb2, tokenization_service_pb2_grpc
from maas.vision.v1 import vision_service_pb2, vision_service_pb2_grpc
from services.runtime.store.store import ModelStore
from tests.suite.conftest import PROGRAMS, Suite, free_ports, link_or_copy

pytestmark = pytest.mark.models

# Letters alone: the speller reads nothing else.
CANARY = "zqcanaryqz"
PERSONAL = "alice@example.com"
TEXT = f"{CANARY} of {PERSONAL}"
FEW = ("gpt2-bpe", "smollm2-135m-instruct")

Call = Callable[[grpc.Channel], Any]


def tokenization(method: str, request: Any) -> Call:
    return lambda channel: getattr(tokenization_service_pb2_grpc.TokenizationServiceStub(channel), method)(request)


def vision(request: Any) -> Call:
    return lambda channel: vision_service_pb2_grpc.VisionServiceStub(channel).Classify(request)


def sequence(request: Any) -> Call:
    return lambda channel: sequence_service_pb2_grpc.SequenceServiceStub(channel).Transduce(request)


def generation(method: str, request: Any) -> Call:
    def call(channel: grpc.Channel) -> Any:
        reply = getattr(generation_service_pb2_grpc.GenerationServiceStub(channel), method)(request)
        return list(reply) if method == "GenerateStream" else reply

    return call


def many(channel: grpc.Channel) -> Any:
    request = tokenization_service_pb2.TokenizeStreamRequest(request={"model": "gpt2-bpe", "texts": [TEXT]})
    return list(tokenization_service_pb2_grpc.TokenizationServiceStub(channel).TokenizeStream(iter([request])))


def fan_out(ids: list[str]) -> Call:
    calls = [{"id": name, "tokenize": {"model": "gpt2-bpe", "texts": [TEXT]}} for name in ids]
    request = gateway_service_pb2.FanOutRequest(calls=calls)
    return lambda channel: gateway_service_pb2_grpc.GatewayServiceStub(channel).FanOut(request)


CHAT = {"role": CANARY, "content": TEXT}
SHORT = {"max_tokens": 2}
GENERATE, STREAM = generation_service_pb2.GenerateRequest, generation_service_pb2.GenerateStreamRequest
TOKENIZE, RENDER = tokenization_service_pb2.TokenizeRequest, tokenization_service_pb2.RenderChatRequest
TRANSDUCE, CLASSIFY = sequence_service_pb2.TransduceRequest, vision_service_pb2.ClassifyRequest

# Service, call, and the status it ends with.
CALLS: list[tuple[str, Call, str]] = [
    ("tokenization", tokenization("Tokenize", TOKENIZE(model="gpt2-bpe", texts=[TEXT])), "OK"),
    ("tokenization", many, "OK"),
    ("tokenization", tokenization("Tokenize", TOKENIZE(model=CANARY, texts=[TEXT])), "NOT_FOUND"),
    ("tokenization", tokenization("Tokenize", TOKENIZE(texts=[TEXT] * 300)), "INVALID_ARGUMENT"),
    ("tokenization", tokenization("RenderChat", RENDER(messages=[CHAT])), "INVALID_ARGUMENT"),
    ("vision", vision(CLASSIFY(model="mnist-cnn", images=[{"encoded": TEXT.encode()}])), "INVALID_ARGUMENT"),
    ("vision", vision(CLASSIFY(model=CANARY, images=[{"encoded": TEXT.encode()}])), "NOT_FOUND"),
    ("sequence", sequence(TRANSDUCE(texts=[CANARY])), "OK"),
    ("sequence", sequence(TRANSDUCE(texts=[TEXT * 1000])), "INVALID_ARGUMENT"),
    ("sequence", sequence(TRANSDUCE(model=CANARY, texts=[TEXT])), "NOT_FOUND"),
    ("generation", generation("Generate", GENERATE(text=TEXT, stopping=SHORT)), "OK"),
    ("generation", generation("GenerateStream", STREAM(text=TEXT, stopping=SHORT)), "OK"),
    ("generation", generation("Generate", GENERATE(text=TEXT, sampling={"temperature": -1})), "INVALID_ARGUMENT"),
    ("generation", generation("Generate", GENERATE(model=CANARY, text=TEXT)), "NOT_FOUND"),
    ("gateway", fan_out([CANARY]), "OK"),
    ("gateway", fan_out([CANARY, CANARY]), "INVALID_ARGUMENT"),
]  # fmt: skip


def ended(suite: Suite, door: str, call: Call, wanted: str) -> str:
    """The message of the error that the call ends with, if that was wanted."""
    try:
        call(suite.channel(door))
    except grpc.RpcError as error:
        assert error.code().name == wanted, (door, wanted, error)
        return str(error.details())
    assert wanted == "OK", (door, wanted)
    return ""


@pytest.fixture(scope="module")
def called(suite: Suite) -> set[str]:
    """Every call at both of its doors; the errors' messages."""
    return {ended(suite, door, call, wanted) for name, call, wanted in CALLS for door in {name, "gateway"}}


def logs(suite: Suite) -> dict[str, str]:
    found = {path.stem: path.read_text() for path in (suite.home / "logs").glob("*.log")}
    assert suite.ports.keys() <= found.keys()
    return found


def lines(text: str, message: str) -> list[dict[str, Any]]:
    parsed = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [line for line in parsed if line["message"] == message]


def test_by_default_no_log_holds_a_callers_words(suite: Suite, called: set[str]) -> None:
    assert any(CANARY in told for told in called)
    for name, text in logs(suite).items():
        assert CANARY not in text and PERSONAL not in text, name
    refused = lines(logs(suite)["tokenization"], "refused")
    assert {"texts"} <= {field for line in refused for field in line.get("fields", [])}
    assert all(line["reason"] and line["request_id"] for line in refused)


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory, model_store: ModelStore) -> Iterator[Suite]:
    """A service that logs bodies behind a gateway that does: what logs them is the same in every service."""
    home, modules = tmp_path_factory.mktemp("telling"), ("services.tokenization", "gateway")
    for name in FEW:
        shutil.copytree(model_store.root / name, home / "store" / name, copy_function=link_or_copy)
    (home / "logs").mkdir()
    running = Suite(home, home / "store", dict(zip(("tokenization", "gateway"), free_ports(2), strict=True)))
    told = {"LOG_BODIES": "true", "LAME_DUCK_S": "0", "TOKENIZATION_ADDRESS": running.address("tokenization")}
    environment = os.environ | {f"MAAS_{key}": value for key, value in told.items()}
    with running.stack as stack:
        for module, (name, port) in zip(modules, running.ports.items(), strict=True):
            log = stack.enter_context((home / "logs" / f"{name}.log").open("wb"))
            command = [sys.executable, "-m", module, f"--port={port}", f"--store={running.store}"]
            process = stack.enter_context(subprocess.Popen(command, env=environment, stderr=log))
            stack.callback(process.terminate)
        running.await_reachable("tokenization")
        yield running


def test_switched_on_bodies_are_logged_and_redacted(telling: Suite) -> None:
    for service, call, wanted in CALLS:
        if service == "tokenization":
            for door in telling.ports:
                ended(telling, door, call, wanted)
    for name, text in logs(telling).items():
        assert PERSONAL not in text, name
        assert any(CANARY in line["body"] for line in lines(text, "request")), name
        assert any("[EMAIL]" in line["body"] for line in lines(text, "request")), name


def values(client: Any, key: bytes) -> list[bytes]:
    """What a key holds: an answer, or the entries of a stream's record."""
    return client.hvals(key) if client.type(key) == b"hash" else [client.get(key) or b""]


def test_with_a_key_redis_holds_nothing_of_a_call(suite: Suite, called: set[str]) -> None:
    told = (suite.home / "valkey.conf").read_text()
    port, password = (re.search(rf"^{name} (\S+)$", told, re.M)[1] for name in ("port", "requirepass"))
    with redis.Redis("127.0.0.1", int(port), password=password) as client:
        held = [text for key in client.scan_iter() for text in (key, *values(client, key))]
    assert held
    for text in held:
        assert CANARY.encode() not in text and CANARY.upper().encode() not in text


def test_the_key_is_shown_nowhere(suite: Suite) -> None:
    shown = [suite.maas("status").stdout, (suite.home / "run.json").read_text(), *logs(suite).values()]
    shown.append(str(suite.grpcurl("maas.gateway.v1.GatewayService/GetStatus", {}).messages))
    shown += [Path(f"/proc/{suite.pid(name)}/cmdline").read_text() for name in PROGRAMS]
    assert "gateway" in shown[0]
    assert f"MAAS_CACHE_KEY={suite.key}" in Path(f"/proc/{suite.pid('gateway')}/environ").read_text()
    assert not [text for text in shown if suite.key in text]
