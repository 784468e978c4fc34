"""Faults that nobody notices: leaving callers, killed processes, a dead Redis. Real processes, real signals."""

import re
import signal
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from maas.generation.v1 import generation_service_pb2 as generation
from maas.generation.v1 import generation_service_pb2_grpc as generation_grpc
from maas.tokenization.v1 import tokenization_service_pb2 as tokenization
from maas.tokenization.v1 import tokenization_service_pb2_grpc as tokenization_grpc
from tests.suite.conftest import Suite

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]


def metric(suite: Suite, name: str, labels: str = "") -> float:
    """The sum of all series with these labels, as the generation service's metrics port tells."""
    url = f"http://127.0.0.1:{suite.ports['generation'] + 4000}/metrics"
    with urllib.request.urlopen(url, timeout=5) as reply:
        text = reply.read().decode()
    return sum(float(v) for v in re.findall(rf"^{name}\{{.*{labels}.*\}} (\S+)$", text, re.M))


def steps(suite: Suite) -> float:
    """Engine steps so far."""
    return metric(suite, "maas_engine_steps_total")


def steps_at_rest(suite: Suite) -> float:
    """Engine steps once no sequence holds a KV block."""
    end = time.monotonic() + 20
    while metric(suite, "maas_generation_kv_blocks", 'state="held"'):
        assert time.monotonic() < end, "blocks stay held"
        time.sleep(0.05)
    return steps(suite)


def long_stream(prompt: str = "Count to a thousand:") -> generation.GenerateStreamRequest:
    return generation.GenerateStreamRequest(text=prompt, stopping={"max_tokens": 400, "ignore_eos": True})


@pytest.mark.parametrize("door", ["generation", "gateway"])
def test_cancelling_a_stream_stops_compute_within_one_step(suite: Suite, door: str) -> None:
    stub = generation_grpc.GenerationServiceStub(suite.channel(door))
    before = steps(suite)
    call = stub.GenerateStream(long_stream())
    for _ in range(3):
        next(call)
    call.cancel()
    # One round trip behind the cancel, so that it has arrived.
    tokenization_grpc.TokenizationServiceStub(suite.channel()).Tokenize(tokenization.TokenizeRequest(texts=["x"]))
    stopped = steps_at_rest(suite)
    time.sleep(0.7)
    assert steps(suite) == stopped
    assert before < stopped < before + 380


def test_a_deadline_stops_compute(suite: Suite) -> None:
    stub = generation_grpc.GenerationServiceStub(suite.channel())
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.GenerateStream(long_stream("A deadline"), timeout=0.5))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    stopped = steps_at_rest(suite)
    time.sleep(0.7)
    assert steps(suite) == stopped


def test_sigterm_under_load_loses_no_accepted_call(suite: Suite) -> None:
    stub = generation_grpc.GenerationServiceStub(suite.channel())
    begun = threading.Barrier(4, timeout=60)

    def stream(index: int) -> str:
        request = generation.GenerateStreamRequest(
            text=f"Story {index}:", stopping={"max_tokens": 40, "ignore_eos": True}
        )
        call = stub.GenerateStream(request)
        next(call)
        begun.wait()
        return "".join(message.text_delta for message in call)

    with ThreadPoolExecutor(3) as pool:
        streams = [pool.submit(stream, index) for index in range(3)]
        begun.wait()
        old = suite.kill("generation", signal.SIGTERM)
        assert all(s.result(timeout=60) for s in streams)
    suite.await_serving("generation", not_pid=old)
    suite.await_reachable("generation")
    again = stub.Generate(generation.GenerateRequest(text="Back", stopping={"max_tokens": 1}), timeout=30)
    assert again.completions


@contextmanager
def load(call: Callable[[int], None], clients: int = 4) -> Iterator[Counter[str]]:
    """Calls without pause from several threads; counts how each ended."""
    ended: Counter[str] = Counter()
    stop = threading.Event()

    def client(index: int) -> None:
        number = index
        while not stop.is_set():
            number += clients
            try:
                call(number)
                ended["OK"] += 1
            except grpc.RpcError as error:
                ended[error.code().name] += 1

    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(client, index) for index in range(clients)]
        yield ended
        stop.set()
        for one in running:
            one.result(timeout=30)


def await_calls(ended: Counter[str], more: int) -> None:
    until, end = ended["OK"] + more, time.monotonic() + 30
    while ended["OK"] < until:
        assert time.monotonic() < end, ended
        time.sleep(0.01)


def test_valkey_killed_in_mid_load_costs_no_call_and_is_used_again(suite: Suite) -> None:
    stub = tokenization_grpc.TokenizationServiceStub(suite.channel())

    def call(number: int) -> None:
        stub.Tokenize(tokenization.TokenizeRequest(texts=[f"call {number % 50}"]), timeout=10)

    with load(call) as ended:
        await_calls(ended, 50)
        suite.kill("valkey")
        await_calls(ended, 300)
    assert set(ended) == {"OK"}
    end = time.monotonic() + 60
    status = "maas.gateway.v1.GatewayService/GetStatus"
    while suite.grpcurl(status, {}).messages[0]["cache"]["redis"] != "connected":
        assert time.monotonic() < end
        stub.Tokenize(tokenization.TokenizeRequest(texts=[f"probe {time.monotonic()}"]), timeout=10)
        time.sleep(0.2)


def test_a_killed_service_comes_back_and_is_used_again(suite: Suite) -> None:
    stub = tokenization_grpc.TokenizationServiceStub(suite.channel())

    def call(number: int) -> None:
        stub.Tokenize(tokenization.TokenizeRequest(texts=[f"unique {number} {time.monotonic()}"]), timeout=10)

    with load(call) as ended:
        await_calls(ended, 50)
        old = suite.kill("tokenization")
        suite.await_serving("tokenization", not_pid=old)
        suite.await_reachable("tokenization")
        await_calls(ended, 50)
    assert set(ended) <= {"OK", "UNAVAILABLE"}
