"""Plain numbers of calls and what Prometheus is told of them."""

from services.runtime.metrics import Metrics
from services.runtime.telemetry.calls import LATENCY_BUCKETS, Tally

METHOD = "maas.area.v1.Service/Do"
DURATION = "grpc_server_call_duration_seconds"
LABELS = {"grpc_method": METHOD, "grpc_status": "OK"}


def test_a_tally_puts_values_where_prometheus_would() -> None:
    told = Metrics()
    values = [0.0, *LATENCY_BUCKETS, 0.00015, 7.5, 1000.0]
    calls = told.of(f"/{METHOD}")
    reference = told._latency("reference_seconds", "the instrument itself")
    for value in values:
        calls.end("OK", value, 0, 0)
        reference.observe(value)
    for bound in (*map(float, LATENCY_BUCKETS), float("inf")):
        le = "+Inf" if bound == float("inf") else str(bound)
        ours = told.registry.get_sample_value(f"{DURATION}_bucket", {**LABELS, "le": le})
        assert ours == told.registry.get_sample_value("reference_seconds_bucket", {"le": le}), le
    assert told.registry.get_sample_value(f"{DURATION}_sum", LABELS) == sum(values)


def test_looking_twice_tells_nothing_twice() -> None:
    told = Metrics()
    calls = told.of(f"/{METHOD}")
    for _ in range(3):
        calls.begin()
    for number in (1, 2):
        calls.end("OK", 0.5, 10, 20)
        told.tell()
        told.tell()
        assert told.registry.get_sample_value(f"{DURATION}_count", LABELS) == number
        assert told.registry.get_sample_value("maas_calls_inside") == 3 - number
    for way, size in (("sent", 20), ("rcvd", 40)):
        name = f"grpc_server_call_{way}_total_compressed_message_size_bytes_sum"
        assert told.registry.get_sample_value(name, LABELS) == size
    assert told.registry.get_sample_value("grpc_server_call_started_total", {"grpc_method": METHOD}) == 3


def test_an_example_of_a_sampled_call_is_kept_with_its_bucket() -> None:
    tally = Tally((1.0, 2.0))
    tally.add(1.5, "4bf92f35")
    tally.add(1.7)
    assert tally.counts == [0, 2, 0]
    assert tally.examples[1][:2] == ("4bf92f35", 1.5)
    told = Metrics()
    told.of(METHOD).end("OK", 0.5, 0, 0, "4bf92f35")
    told.of(METHOD).end("OK", 0.5, 0, 0)
    shown = [
        sample.exemplar
        for family in told.registry.collect()
        for sample in family.samples
        if sample.name == f"{DURATION}_bucket" and sample.exemplar
    ]
    assert [(one.labels, one.value) for one in shown] == [({"trace_id": "4bf92f35"}, 0.5)]
