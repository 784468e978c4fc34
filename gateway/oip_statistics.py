"""What every replica counted of its models, added up. Pure."""

from collections.abc import Iterable

from maas.oip.v1 import grpc_service_pb2 as pb


def added(replies: Iterable[pb.ModelStatisticsResponse]) -> pb.ModelStatisticsResponse:
    """One entry for each model version, in order of name and version."""
    found: dict[tuple[str, str], pb.ModelStatistics] = {}
    for one in (one for reply in replies for one in reply.model_stats):
        _add(
            found.setdefault((one.name, one.version), pb.ModelStatistics(name=one.name, version=one.version)), one
        )
    return pb.ModelStatisticsResponse(model_stats=[found[key] for key in sorted(found)])


def _add(total: pb.ModelStatistics, one: pb.ModelStatistics) -> None:
    total.last_inference = max(total.last_inference, one.last_inference)
    total.inference_count += one.inference_count
    total.execution_count += one.execution_count
    for field, spent in one.inference_stats.ListFields():
        _spend(getattr(total.inference_stats, field.name), spent)
    for batch in one.batch_stats:
        _spend(_of_size(total, batch.batch_size).compute_infer, batch.compute_infer)


def _spend(total: pb.StatisticDuration, spent: pb.StatisticDuration) -> None:
    total.count += spent.count
    total.ns += spent.ns


def _of_size(total: pb.ModelStatistics, size: int) -> pb.InferBatchStatistics:
    for batch in total.batch_stats:
        if batch.batch_size == size:
            return batch
    return total.batch_stats.add(batch_size=size)
