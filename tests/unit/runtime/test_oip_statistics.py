"""Counts of requests and of what a queue did."""

from services.runtime.oip_statistics import Tallies


class Heard:
    """An observer that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def queued(self, depth: int) -> None:
        self.told.append(depth)

    def skipped(self, why: str) -> None:
        self.told.append(why)

    def computed(self, waits_s: object, compute_s: float) -> None:
        self.told.append((waits_s, compute_s))


def test_batches_requests_and_rows_are_counted_and_the_observer_hears_all() -> None:
    tallies, heard = Tallies(), Heard()
    tally = tallies.begin("net", 1, heard)
    tally.queued(3)
    tally.skipped("deadline")
    tally.computed([0.001, 0.003], 0.5)
    tally.computed([0.002], 0.25)
    tally.computed([0.002], 0.25)
    tally.succeeded(5, 10, 20, 100)
    tally.failed(7)
    found = tallies.of("net", 1).message("net", 1)
    stats = found.inference_stats
    assert heard.told == [3, "deadline", ([0.001, 0.003], 0.5), ([0.002], 0.25), ([0.002], 0.25)]
    assert (found.inference_count, found.execution_count) == (5, 3)
    assert (stats.success.count, stats.success.ns, stats.fail.count, stats.fail.ns) == (1, 100, 1, 7)
    assert (stats.compute_input.ns, stats.compute_output.ns) == (10, 20)
    assert (stats.queue.count, stats.queue.ns) == (4, 8_000_000)
    # Each request of a batch waited for all of it.
    assert (stats.compute_infer.count, stats.compute_infer.ns) == (4, 1_500_000_000)
    assert [(b.batch_size, b.compute_infer.count, b.compute_infer.ns) for b in found.batch_stats] == [
        (1, 2, 500_000_000),
        (2, 1, 500_000_000),
    ]


def test_a_version_loaded_again_is_counted_anew() -> None:
    tallies = Tallies()
    tallies.begin("net", 1).failed(7)
    tallies.begin("net", 1)
    assert tallies.of("net", 1).fail.count == 0
