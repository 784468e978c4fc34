"""Two gateways behind the real Envoy: turns in order, a dead one and a leaving one cost nobody a call."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from tests.suite.conftest import Suite
from tests.suite.envoy import Edge, edge
from tests.suite.replicas import Replica, replicas

pytestmark = [pytest.mark.models, pytest.mark.timeout(120)]

COUNT = "maas.tokenization.v1.TokenizationService/CountTokens"
# CountTokensRequest{texts: ["a b c"]}
REQUEST = b"\x1a\x05a b c"


@pytest.fixture(scope="module")
def running(
    suite: Suite, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Edge, tuple[Replica, Replica]]]:
    folder = tmp_path_factory.mktemp("replicas")
    with replicas(suite, folder, 2) as (first, second), edge(folder, [first.address, second.address]) as front:
        yield front, (first, second)


@pytest.fixture
def two(running: tuple[Edge, tuple[Replica, Replica]]) -> tuple[Edge, tuple[Replica, Replica]]:
    """Both up and in turn, whatever the test before did."""
    front, found = running
    for replica in found:
        replica.revive()
    front.await_healthy(2)
    return running


class Load:
    """Callers that ask again and again, without retries of their own."""

    def __init__(self, front: Edge, callers: int) -> None:
        self.answers = 0
        # When each failed call began (time.monotonic), and how it ended.
        self.failures: list[tuple[float, str]] = []
        self._over = threading.Event()
        self._front = front
        self._threads = [threading.Thread(target=self._ask) for _ in range(callers)]

    def _ask(self) -> None:
        options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(self._front.address, options=options) as channel:
            call = channel.unary_unary(f"/{COUNT}")
            while not self._over.is_set():
                began = time.monotonic()
                try:
                    call(REQUEST, timeout=20)
                    self.answers += 1
                except grpc.RpcError as error:
                    self.failures.append((began, f"{error.code().name}: {error.details()}"))

    def await_more(self, calls: int) -> None:
        goal, end = self.answers + calls, time.monotonic() + 60
        while self.answers < goal:
            assert time.monotonic() < end, self.failures
            time.sleep(0.01)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def load(front: Edge, callers: int) -> Iterator[Load]:
    running = Load(front, callers)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def test_replicas_take_turns(two: tuple[Edge, tuple[Replica, Replica]]) -> None:
    front, found = two
    before = [replica.served(COUNT) for replica in found]
    for _ in range(40):
        assert front.post("/v1/tokenization:countTokens", {"texts": ["a b c"]}).status == 200
    assert [r.served(COUNT) - was for r, was in zip(found, before, strict=True)] == [20, 20]


def test_a_replica_killed_under_load_costs_nobody_a_call(two: tuple[Edge, tuple[Replica, Replica]]) -> None:
    """But those whose answer had begun to arrive: these no proxy can send again."""
    front, (first, second) = two
    with load(front, 8) as callers:
        callers.await_more(200)
        before = second.served(COUNT)
        first.kill()
        dead = time.monotonic()
        callers.await_more(600)
        front.await_healthy(1)
        assert second.served(COUNT) - before >= 600
        first.revive()
        front.await_healthy(2)
        callers.await_more(200)
    assert first.served(COUNT) >= 50, "it is given its turns again"
    assert [text for began, text in callers.failures if began > dead] == []
    assert all("RST_STREAM" in text for _, text in callers.failures), callers.failures
    assert len(callers.failures) <= 8, "one of each caller at most"
    assert front.count("upstream_rq_retry") > 0
    assert front.count("upstream_rq_retry_overflow") == 0
    assert front.count("outlier_detection.ejections_enforced_consecutive_local_origin_failure") > 0


def test_a_replica_that_drains_is_left_before_it_closes(two: tuple[Edge, tuple[Replica, Replica]]) -> None:
    front, (first, _) = two
    retries = front.count("upstream_rq_retry")
    with load(front, 4) as callers:
        callers.await_more(100)
        first.terminate()
        front.await_healthy(1)
        at_the_end = first.served(COUNT)
        callers.await_more(100)
        assert first.served(COUNT) - at_the_end <= 8, "within its lame duck it still answers, and is not asked"
    assert callers.failures == []
    assert front.count("upstream_rq_retry") == retries


def test_with_no_replica_the_answer_is_unavailable_at_once(two: tuple[Edge, tuple[Replica, Replica]]) -> None:
    front, found = two
    for replica in found:
        replica.kill()
    front.await_healthy(0)
    assert front.post("/v1/tokenization:countTokens", {"texts": ["a"]}).status == 503
    call = {"content-type": "application/grpc"}
    assert front.send("POST", f"/{COUNT}", bytes(5), call).headers["grpc-status"] == "14"
    assert front.get("/healthz").status == 503
