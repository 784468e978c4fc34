"""What Prometheus would read → the messages of OTLP (opentelemetry-proto, metrics v1). Knows no network."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypedDict

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from services.runtime.tracing.otlp import SCOPE, nanos, pairs

# Since the process began.
CUMULATIVE = pb.AGGREGATION_TEMPORALITY_CUMULATIVE
Labels = tuple[tuple[str, str], ...]


class Times(TypedDict):
    """Of every point of a message."""

    start_time_unix_nano: int
    time_unix_nano: int


def request(
    families: Iterable[Metric], resource: Resource, began_s: float, now_s: float
) -> ExportMetricsServiceRequest:
    """Everything at `now_s`, of a process that counts since `began_s`: seconds since the epoch."""
    times: Times = {"start_time_unix_nano": nanos(began_s), "time_unix_nano": nanos(now_s)}
    metrics = [_metric(family, times) for family in families if family.samples]
    scope = pb.ScopeMetrics(scope=SCOPE, metrics=metrics)
    return ExportMetricsServiceRequest(
        resource_metrics=[pb.ResourceMetrics(resource=resource, scope_metrics=[scope])]
    )


def _metric(family: Metric, times: Times) -> pb.Metric:
    made = pb.Metric(name=family.name, description=family.documentation)
    if family.type == "histogram":
        made.histogram.CopyFrom(pb.Histogram(aggregation_temporality=CUMULATIVE))
        made.histogram.data_points.extend(_histograms(family.samples, times))
    elif family.type == "counter":
        made.sum.CopyFrom(pb.Sum(aggregation_temporality=CUMULATIVE, is_monotonic=True))
        made.sum.data_points.extend(_numbers(family.samples, times))
    else:
        made.gauge.data_points.extend(_numbers(family.samples, times))
    return made


def _numbers(samples: Iterable[Sample], times: Times) -> Iterator[pb.NumberDataPoint]:
    for one in samples:
        if not one.name.endswith("_created"):
            yield pb.NumberDataPoint(attributes=pairs(one.labels), as_double=one.value, **times)


def _histograms(samples: Iterable[Sample], times: Times) -> Iterator[pb.HistogramDataPoint]:
    """One for each set of labels; Prometheus' buckets add up, those of OTLP do not."""
    found: dict[Labels, list[Sample]] = {}
    for one in samples:
        found.setdefault(tuple((k, v) for k, v in one.labels.items() if k != "le"), []).append(one)
    for labels, group in found.items():
        buckets = [one for one in group if one.name.endswith("_bucket")]
        sums = [one.value for one in group if one.name.endswith("_sum")]
        yield pb.HistogramDataPoint(
            attributes=pairs(dict(labels)),
            count=int(buckets[-1].value),
            sum=sums[0],
            explicit_bounds=[float(one.labels["le"]) for one in buckets[:-1]],
            bucket_counts=_apart([one.value for one in buckets]),
            exemplars=[made for one in buckets if (made := _exemplar(one)) is not None],
            **times,
        )


def _apart(sums: Sequence[float]) -> list[int]:
    return [int(one - before) for one, before in zip(sums, [0.0, *sums], strict=False)]


def _exemplar(bucket: Sample) -> pb.Exemplar | None:
    told = bucket.exemplar
    if told is None or "trace_id" not in told.labels:
        return None
    trace_id, span_id = (bytes.fromhex(told.labels.get(key, "")) for key in ("trace_id", "span_id"))
    when = nanos(float(told.timestamp or 0.0))
    return pb.Exemplar(as_double=told.value, time_unix_nano=when, trace_id=trace_id, span_id=span_id)
