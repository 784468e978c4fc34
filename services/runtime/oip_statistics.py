"""Counts and times of the models, as the Open Inference Protocol tells them. Knows no model and no tensor.

What its requests cost is counted by the protocol's own handlers. What the device did is counted at the model's
queue, whoever asked: a batch can hold callers of every contract.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from maas.oip.v1 import grpc_service_pb2 as pb
from services.runtime.batcher import Observer


@dataclass(slots=True)
class Spent:
    """How often, and how long altogether."""

    count: int = 0
    ns: int = 0

    def add(self, ns: float, count: int = 1) -> None:
        self.count += count
        self.ns += round(ns)

    def message(self) -> pb.StatisticDuration:
        return pb.StatisticDuration(count=self.count, ns=self.ns)


@dataclass(slots=True)
class Tally:
    """Of one model version in memory; stands between its queue and that queue's observer."""

    observer: Observer | None = None
    success: Spent = field(default_factory=Spent)
    fail: Spent = field(default_factory=Spent)
    queue: Spent = field(default_factory=Spent)
    compute_input: Spent = field(default_factory=Spent)
    compute_infer: Spent = field(default_factory=Spent)
    compute_output: Spent = field(default_factory=Spent)
    batches: defaultdict[int, Spent] = field(default_factory=lambda: defaultdict(Spent))
    rows: int = 0
    executions: int = 0
    last_ms: int = 0

    def queued(self, depth: int) -> None:
        """Items waiting now."""
        if self.observer:
            self.observer.queued(depth)

    def skipped(self, why: str) -> None:
        """One item dropped before compute."""
        if self.observer:
            self.observer.skipped(why)

    def computed(self, waits_s: Sequence[float], compute_s: float) -> None:
        """One batch ended: each item's wait and the batch's compute, seconds."""
        size = len(waits_s)
        self.executions += 1
        self.queue.add(sum(waits_s) * 1e9, size)
        self.compute_infer.add(compute_s * 1e9 * size, size)
        self.batches[size].add(compute_s * 1e9)
        if self.observer:
            self.observer.computed(waits_s, compute_s)

    def succeeded(self, rows: int, read_ns: int, write_ns: int, whole_ns: int) -> None:
        """One request of the protocol was answered."""
        self.rows += rows
        self.compute_input.add(read_ns)
        self.compute_output.add(write_ns)
        self.success.add(whole_ns)
        self.last_ms = time.time_ns() // 1_000_000

    def failed(self, whole_ns: int) -> None:
        """One request that had reached the model was not."""
        self.fail.add(whole_ns)

    def message(self, name: str, version: int) -> pb.ModelStatistics:
        return pb.ModelStatistics(
            name=name,
            version=str(version),
            last_inference=self.last_ms,
            inference_count=self.rows,
            execution_count=self.executions,
            inference_stats=pb.InferStatistics(
                success=self.success.message(),
                fail=self.fail.message(),
                queue=self.queue.message(),
                compute_input=self.compute_input.message(),
                compute_infer=self.compute_infer.message(),
                compute_output=self.compute_output.message(),
            ),
            batch_stats=[
                pb.InferBatchStatistics(batch_size=size, compute_infer=spent.message())
                for size, spent in sorted(self.batches.items())
            ],
        )


class Tallies:
    """The tally of every model version that was ever loaded here."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, int], Tally] = {}

    def begin(self, name: str, version: int, observer: Observer | None = None) -> Tally:
        """A new one, for a version that is being loaded; it tells `observer` what it is told itself."""
        self._tallies[name, version] = tally = Tally(observer)
        return tally

    def of(self, name: str, version: int) -> Tally:
        """The one begun last; one that counts requests alone where none was."""
        found = self._tallies.get((name, version))
        return found if found is not None else self.begin(name, version)
