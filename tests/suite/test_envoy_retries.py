"""What the real Envoy sends again and what it does not, before a server that fails on purpose and a good one."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from tests.suite.envoy import Edge, edge

SERVER = Path(__file__).with_name("faulty_server.py")
TOKENS, SEQUENCES = "/maas.tokenization.v1.TokenizationService", "/maas.sequence.v1.SequenceService"


@contextmanager
def server(name: str, log: Path) -> Iterator[str]:
    """Its address, once it serves."""
    command = [sys.executable, str(SERVER), name, str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            yield f"127.0.0.1:{running.stdout.readline().strip()}"
        finally:
            running.kill()


@pytest.fixture
def between(tmp_path: Path) -> Iterator[tuple[Edge, Path]]:
    """Envoy before a good and a bad server, and the log of the calls that reached one."""
    log = tmp_path / "calls"
    with server("good", log) as good, server("bad", log) as bad, edge(tmp_path, [good, bad]) as front:
        yield front, log


def outcomes(front: Edge, method: str, calls: int) -> list[str]:
    """Sorted: what answered, or the code of the failure."""
    found = []
    with grpc.insecure_channel(front.address, options=[("grpc.enable_retries", 0)]) as channel:
        for _ in range(calls):
            try:
                found.append(channel.unary_unary(method)(b"", timeout=20).decode())
            except grpc.RpcError as error:
                found.append(error.code().name)
    return sorted(found)


@pytest.mark.parametrize(
    ("method", "answers"),
    [
        (f"{TOKENS}/Unavailable", ["good", "good"]),
        (f"{TOKENS}/Die", ["good", "good"]),
        (f"{TOKENS}/Exhausted", ["RESOURCE_EXHAUSTED", "good"]),
        # Its answer alone may have been lost: not for Envoy to say.
        (f"{SEQUENCES}/StepSession", ["UNAVAILABLE", "good"]),
        ("/inference.GRPCInferenceService/ModelInfer", ["UNAVAILABLE", "good"]),
    ],
)
def test_what_is_sent_again(between: tuple[Edge, Path], method: str, answers: list[str]) -> None:
    front, log = between
    assert outcomes(front, method, 2) == answers
    tried = [line.split()[1] for line in log.read_text().splitlines()]
    assert "bad" in tried
    assert tried.count("good") == answers.count("good")


def test_the_callers_deadline_goes_on(between: tuple[Edge, Path]) -> None:
    with grpc.insecure_channel(between[0].address) as channel:
        left = float(channel.unary_unary(f"{TOKENS}/Remaining")(b"", timeout=7))
    assert 5 < left < 8, "rounded up on its way"


def test_round_robin_between_the_two(between: tuple[Edge, Path]) -> None:
    assert outcomes(between[0], f"{TOKENS}/Tokenize", 10) == ["bad"] * 5 + ["good"] * 5


def test_many_calls_open_more_connections(between: tuple[Edge, Path]) -> None:
    """So that all processes of a gateway with workers get some."""
    front, _ = between
    before = front.count("upstream_cx_total")
    with grpc.insecure_channel(front.address) as channel:
        calls = [channel.unary_unary(f"{TOKENS}/Slow").future(b"", timeout=20) for _ in range(140)]
        assert {call.result() for call in calls} == {b"good", b"bad"}
    assert front.count("upstream_cx_total") - before >= 4
