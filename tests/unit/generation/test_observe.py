"""What an engine tells of itself, as numbers that a scrape sees."""

from services.generation.engine.load import Load
from services.generation.observe import GenerationMetrics
from services.runtime.metrics import Metrics


def load(held: int, steps: int, preemptions: int, skipped: int) -> Load:
    waiting = {"high": 1, "normal": 2, "low": 0}
    return Load(
        waiting,
        {"held": held, "cached": 3, "blank": 5},
        steps,
        preemptions,
        skipped,
        drafted=9 * steps,
        accepted=steps,
    )


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
    assert value("maas_generation_drafts_total", model="m", fate="drafted") == 9 * 12
    assert value("maas_generation_drafts_total", model="m", fate="accepted") == 12


def test_every_token_of_a_beam_is_counted() -> None:
    metrics = Metrics()
    observer = GenerationMetrics(metrics, "m")
    observer.tokens(12, 0.1, first=True)
    observer.tokens(1, 0.1, first=False)
    assert metrics.registry.get_sample_value("maas_tokens_total", {"model": "m", "kind": "completion"}) == 13
