"""What an engine tells of itself, as numbers that a scrape sees."""

from services.generation.engine.load import Load
from services.generation.observe import GenerationMetrics
from services.runtime.metrics import Metrics


def load(held: int, steps: int, preemptions: int, skipped: int) -> Load:
    waiting = {"high": 1, "normal": 2, "low": 0}
    return Load(waiting, {"held": held, "cached": 3, "blank": 5}, steps, preemptions, skipped)


def test_gauges_follow_and_counters_count_what_is_new() -> None:
    metrics = Metrics()
    observer = GenerationMetrics(metrics, "m")
    for now in (load(7, 10, 1, 0), load(4, 12, 1, 2)):
        observer.stands(now)

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, labels)

    assert value("maas_generation_kv_blocks", model="m", state="held") == 4
    assert value("maas_generation_kv_blocks", model="m", state="cached") == 3
    assert value("maas_generation_waiting", model="m", priority="normal") == 2
    assert value("maas_generation_preemptions_total", model="m") == 1
    assert value("maas_engine_steps_total", model="m") == 12
    assert value("maas_skipped_total", queue="m", why="deadline") == 2
