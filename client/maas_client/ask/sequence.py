"""What is asked of sequence, but for sessions, and how its answers are read."""

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np

from maas.common.v1 import tensor_pb2
from maas.sequence.v1 import sequence_service_pb2 as pb
from maas_client import arrays
from maas_client.arrays import Floats, SeriesLike
from maas_client.ask.words import classifications, embeddings, label, several
from maas_client.call import Ask, CallInfo, Which, how, which
from maas_client.results import Batch, Classification, Embeddings, Explanation, Forecast, Transduction

SERVICE = "maas.sequence.v1.SequenceService"


def classify_texts(
    texts: str | Sequence[str], *, top_k: int | None = None, **options: Unpack[Which]
) -> Ask[Batch[Classification]]:
    """Labels of each text; every class unless `top_k` is set."""
    values = tensor_pb2.Texts(values=several(texts))
    return _classify(pb.ClassifyRequest(**which(options), texts=values, top_k=top_k), options)


def classify_series(
    series: Sequence[SeriesLike],
    *,
    top_k: int | None = None,
    step_scores: bool = False,
    sample_rate_hz: int = 0,
    **options: Unpack[Which],
) -> Ask[Batch[Classification]]:
    """Labels of each series, [steps] or [steps, features]; `sample_rate_hz` of audio, 0 = not stated."""
    values = arrays.series_batch(series, sample_rate_hz)
    request = pb.ClassifyRequest(**which(options), series=values, top_k=top_k, step_scores=step_scores)
    return _classify(request, options)


def embed_texts(
    texts: str | Sequence[str],
    *,
    normalize: bool | None = None,
    truncate: bool = False,
    **options: Unpack[Which],
) -> Ask[Embeddings]:
    """float32 [texts, dimensions], of length 1 unless `normalize` is false; `truncate` cuts what is too long."""
    values = tensor_pb2.Texts(values=several(texts))
    return _embed(pb.EmbedRequest(**which(options), texts=values, normalize=normalize, truncate=truncate), options)


def embed_series(
    series: Sequence[SeriesLike], *, normalize: bool | None = None, **options: Unpack[Which]
) -> Ask[Embeddings]:
    """float32 [series, dimensions]."""
    values = arrays.series_batch(series)
    return _embed(pb.EmbedRequest(**which(options), series=values, normalize=normalize), options)


def transduce(texts: str | Sequence[str], **options: Unpack[Which]) -> Ask[Batch[Transduction]]:
    """One sequence of symbols for each text: of letters, phonemes."""
    request = pb.TransduceRequest(**which(options), texts=several(texts))
    return Ask(f"{SERVICE}/Transduce", request, pb.TransduceResponse, transductions, how(options))


def forecast(
    series: SeriesLike, horizon_steps: int, *, quantiles: Sequence[float] = (), **options: Unpack[Which]
) -> Ask[Forecast]:
    """The steps after a series, in its unit; `quantiles` in (0, 1)."""
    values = arrays.series(series)
    request = pb.ForecastRequest(**which(options), series=values, horizon_steps=horizon_steps, quantiles=quantiles)

    def read(reply: Any, info: CallInfo) -> Forecast:
        return _forecast(reply, info, max(values.features, 1))

    return Ask(f"{SERVICE}/Forecast", request, pb.ForecastResponse, read, how(options))


def explain_text(
    text: str, *, target_index: int | None = None, steps: int | None = None, **options: Unpack[Which]
) -> Ask[Explanation]:
    """Which tokens decided."""
    request = pb.ExplainRequest(**which(options), text=text, target_index=target_index, steps=steps)
    return Ask(f"{SERVICE}/Explain", request, pb.ExplainResponse, explanation, how(options))


def explain_series(
    series: SeriesLike, *, target_index: int | None = None, steps: int | None = None, **options: Unpack[Which]
) -> Ask[Explanation]:
    """Which steps decided."""
    values = arrays.series(series)
    request = pb.ExplainRequest(**which(options), series=values, target_index=target_index, steps=steps)
    return Ask(f"{SERVICE}/Explain", request, pb.ExplainResponse, explanation, how(options))


def transductions(reply: Any, info: CallInfo) -> Batch[Transduction]:
    return Batch(tuple(Transduction(one.text, tuple(one.symbols), one.truncated) for one in reply.results), info)


def forecast_of_one(reply: Any, info: CallInfo) -> Forecast:
    """Where nobody here knows how many features the series has: all values in one column."""
    return _forecast(reply, info, 1)


def explanation(reply: Any, info: CallInfo) -> Explanation:
    attributions = np.asarray(reply.attributions, np.float32)
    return Explanation(label(reply.target), attributions, reply.convergence_delta, info, tuple(reply.tokens))


def _classify(request: pb.ClassifyRequest, options: Which) -> Ask[Batch[Classification]]:
    return Ask(f"{SERVICE}/Classify", request, pb.ClassifyResponse, classifications, how(options))


def _embed(request: pb.EmbedRequest, options: Which) -> Ask[Embeddings]:
    return Ask(f"{SERVICE}/Embed", request, pb.EmbedResponse, embeddings, how(options))


def _forecast(reply: Any, info: CallInfo, features: int) -> Forecast:
    def table(values: Any) -> Floats:
        return np.asarray(values, np.float32).reshape(-1, features)

    quantiles = {round(path.quantile, 6): table(path.values) for path in reply.quantiles}
    return Forecast(table(reply.values), quantiles, info)
