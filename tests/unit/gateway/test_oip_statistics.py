"""Replicas' counts added up."""

from gateway.oip_statistics import added
from maas.oip.v1 import grpc_service_pb2 as pb


def counted(name: str, requests: int, last: int, sizes: dict[int, int]) -> pb.ModelStatisticsResponse:
    one = pb.ModelStatistics(name=name, version="1", last_inference=last, inference_count=2 * requests)
    one.execution_count = requests
    one.inference_stats.success.count, one.inference_stats.success.ns = requests, 1000 * requests
    for size, count in sizes.items():
        one.batch_stats.add(batch_size=size, compute_infer={"count": count, "ns": 10 * count})
    return pb.ModelStatisticsResponse(model_stats=[one])


def test_counts_add_up_by_version_and_batch_size() -> None:
    a, b = added(
        [counted("b", 1, 5, {1: 1}), counted("a", 2, 7, {4: 2}), counted("b", 3, 4, {1: 2, 8: 1})]
    ).model_stats
    assert (a.name, a.inference_count, b.name, b.inference_count) == ("a", 4, "b", 8)
    assert (b.execution_count, b.last_inference) == (4, 5)
    assert (b.inference_stats.success.count, b.inference_stats.success.ns) == (4, 4000)
    assert [(s.batch_size, s.compute_infer.count, s.compute_infer.ns) for s in b.batch_stats] == [
        (1, 3, 30),
        (8, 1, 10),
    ]
