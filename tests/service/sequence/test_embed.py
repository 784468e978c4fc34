"""Embed: texts and ids to vectors."""

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from maas.common.v1 import tensor_pb2
from maas.sequence.v1 import sequence_service_pb2 as pb
from services.runtime import tensors
from tests.service.sequence.calls import FRAMES, packed, refused, texts

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]


async def test_embed_golden_values_and_meaning(stub: Any) -> None:
    sentences = ("A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby.")
    reply = await stub.Embed(texts(*sentences))
    vectors = tensors.to_numpy(reply.embeddings, "embeddings")
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(vectors[0, :5], [0.0332, 0.0044, -0.0063, 0.0484, -0.1387], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    similar = vectors @ vectors.T
    assert similar[0, 1] == pytest.approx(0.755, abs=0.002)
    assert abs(similar[0, 2]) < 0.15
    assert reply.token_counts[0] == 8


async def test_embedding_ids_equals_embedding_their_text(stub: Any) -> None:
    ids = [101, 1037, 2158, 2003, 5983, 2833, 1012, 102]
    request = pb.EmbedRequest(readable=True)
    request.token_ids.sequences.add(values=ids)
    request.token_ids.sequences.add(packed=np.array(ids, "<u4").tobytes())
    by_ids = await stub.Embed(request)
    assert len(by_ids.embeddings.float_values) == 2 * 384
    by_text = tensors.to_numpy((await stub.Embed(texts("A man is eating food."))).embeddings, "")
    for row in tensors.to_numpy(by_ids.embeddings, ""):
        np.testing.assert_allclose(row, by_text[0], atol=1e-6)


async def test_embedding_together_equals_alone(stub: Any) -> None:
    sentences = ["short", "a rather longer sentence about nothing in particular " * 6, "x y z"]
    together = tensors.to_numpy((await stub.Embed(texts(*sentences))).embeddings, "")
    replies = await asyncio.gather(*(stub.Embed(texts(sentence)) for sentence in sentences))
    for row, reply in zip(together, replies, strict=True):
        np.testing.assert_allclose(row, tensors.to_numpy(reply.embeddings, "")[0], atol=1e-5)


async def test_embed_without_normalisation(stub: Any) -> None:
    raw = tensors.to_numpy((await stub.Embed(texts("food", normalize=False))).embeddings, "")[0]
    unit = tensors.to_numpy((await stub.Embed(texts("food"))).embeddings, "")[0]
    assert np.linalg.norm(raw) > 1.5
    np.testing.assert_allclose(raw / np.linalg.norm(raw), unit, atol=1e-6)


async def test_long_texts_are_refused_or_cut(stub: Any) -> None:
    long = "word " * 600
    call = stub.Embed(texts("fine", long))
    await refused(call, grpc.StatusCode.INVALID_ARGUMENT, "texts.values[1]", "602 tokens; this model reads 512")
    reply = await stub.Embed(texts(long, truncate=True))
    assert list(reply.token_counts) == [512]


async def test_bad_ids_and_foreign_tokenizers(stub: Any) -> None:
    request = pb.EmbedRequest()
    request.token_ids.sequences.add(values=[101, 10**9])
    field = "token_ids.sequences[0].values[1]"
    await refused(stub.Embed(request), grpc.StatusCode.INVALID_ARGUMENT, field)
    request.token_ids.sequences[0].CopyFrom(tensor_pb2.TokenIds(values=[101], tokenizer_digest="sha256:other"))
    await refused(stub.Embed(request), grpc.StatusCode.FAILED_PRECONDITION)
    request.token_ids.sequences[0].CopyFrom(tensor_pb2.TokenIds())
    await refused(stub.Embed(request), grpc.StatusCode.INVALID_ARGUMENT, "token_ids.sequences[0]")


async def test_embed_refuses_nothing_series_and_other_models(stub: Any) -> None:
    await refused(stub.Embed(pb.EmbedRequest()), grpc.StatusCode.INVALID_ARGUMENT, "input")
    empty = pb.EmbedRequest(texts=tensor_pb2.Texts())
    await refused(stub.Embed(empty), grpc.StatusCode.INVALID_ARGUMENT, "texts.values")
    series = pb.EmbedRequest(series=tensor_pb2.SeriesBatch(values=[packed(FRAMES[0])]))
    await refused(stub.Embed(series), grpc.StatusCode.INVALID_ARGUMENT, "series")
    other = texts("x", model="silero-vad")
    await refused(stub.Embed(other), grpc.StatusCode.INVALID_ARGUMENT, "model", "sequence.embed")
    await refused(stub.Embed(texts("x", model="nope")), grpc.StatusCode.NOT_FOUND, said="minilm-l6-v2")
    await refused(stub.Embed(texts("x", version="77")), grpc.StatusCode.NOT_FOUND)
