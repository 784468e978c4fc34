"""Pictures of every form to labels and embeddings."""

import asyncio
import threading

import grpc
import numpy as np
import pytest
import torch
from grpc import aio
from PIL import Image

from maas.common.v1 import tensor_pb2
from maas.model.v1 import model_service_pb2, model_service_pb2_grpc
from maas.vision.v1 import vision_pb2, vision_service_pb2
from services.runtime.store.store import ModelStore
from services.runtime.tensors import to_numpy
from services.vision import convert
from tests.service.vision.calls import FIELDS, Stub, classify, drawing, encoded, normalised, refusal, tensor
from tests.unit.vision.pictures import encode, png, quarters


async def test_classify_equals_the_net_itself(stub: Stub, net: torch.nn.Module) -> None:
    reply = await stub.Classify(classify(encoded(0, 1, 2), top_k=10))
    with torch.inference_mode():
        wanted = net(torch.from_numpy(np.stack([normalised(seed) for seed in range(3)])))[0].softmax(-1).numpy()
    for result, scores in zip(reply.results, wanted, strict=True):
        got = {label.index: label.score for label in result.labels}
        np.testing.assert_allclose([got[index] for index in range(10)], scores, atol=1e-5)
        assert [label.index for label in result.labels] == np.argsort(-scores, kind="stable").tolist()
        assert all(label.name == f"digit {label.index}" for label in result.labels)


async def test_replies_say_who_and_how_long(stub: Stub, store: ModelStore) -> None:
    reply = await stub.Classify(classify(encoded(0)))
    manifest = store.resolve("digits")
    assert (reply.served_by.model, reply.served_by.version) == ("digits", "1")
    assert reply.served_by.digest == manifest.digest
    assert reply.timing.batch_size == 1
    assert 0 < reply.timing.compute_ms <= reply.timing.total_ms


async def test_a_client_can_prepare_pictures_as_the_service_does(server: tuple[aio.Channel, object]) -> None:
    """By what GetModel tells of the preprocessing, and nothing else: the same labels."""
    request = model_service_pb2.GetModelRequest(model="digits")
    told = (await model_service_pb2_grpc.ModelServiceStub(server[0]).GetModel(request)).model.preprocessing
    assert dict(told) | {"mean": [*told["mean"]], "std": [*told["std"]]} == FIELDS["preprocessing"]
    picture = drawing(5).resize((int(told["size"]),) * 2)
    own = (np.asarray(picture, np.float32)[None] - np.float32(told["mean"][0])) / np.float32(told["std"][0])
    reply = await Stub(server[0]).Classify(classify([tensor(own), *encoded(5)], top_k=10))
    ready, sent = (result.labels for result in reply.results)
    assert [label.index for label in ready] == [label.index for label in sent]
    np.testing.assert_allclose([label.score for label in ready], [label.score for label in sent], atol=1e-6)


async def test_five_labels_unless_asked_otherwise(stub: Stub) -> None:
    assert len((await stub.Classify(classify(encoded(0)))).results[0].labels) == 5
    assert len((await stub.Classify(classify(encoded(0), top_k=1))).results[0].labels) == 1
    code, _, violations = await refusal(stub.Classify(classify(encoded(0), top_k=11)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "10 classes" in violations["top_k"]


async def test_the_three_forms_of_a_picture_agree(stub: Stub) -> None:
    pixels = np.asarray(drawing(7))
    forms = [*encoded(7), tensor(pixels[:, :, None]), tensor(normalised(7))]
    reply = await stub.Classify(classify(forms, top_k=10))
    first, *others = [[(label.index, label.score) for label in result.labels] for result in reply.results]
    for other in others:
        assert [index for index, _ in other] == [index for index, _ in first]
        np.testing.assert_allclose([s for _, s in other], [s for _, s in first], atol=1e-6)


async def test_embeddings_normalised_and_readable(stub: Stub, net: torch.nn.Module) -> None:
    request = vision_service_pb2.EmbedRequest(images=encoded(0, 1))
    reply = await stub.Embed(request)
    got = np.frombuffer(reply.embeddings.data, "<f4").reshape(tuple(reply.embeddings.shape))
    with torch.inference_mode():
        wanted = net(torch.from_numpy(np.stack([normalised(0), normalised(1)])))[1].numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    request.normalize = request.readable = True
    readable = await stub.Embed(request)
    rows = np.reshape(readable.embeddings.float_values, (2, 256))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(rows, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-5)


async def test_sixty_four_pictures_come_back_in_order(stub: Stub) -> None:
    together = await stub.Classify(classify(encoded(*range(64)), top_k=10))
    alone = await asyncio.gather(*(stub.Classify(classify(encoded(seed), top_k=10)) for seed in range(64)))
    assert len(together.results) == 64 and together.timing.batch_size > 1
    for result, single in zip(together.results, alone, strict=True):
        want = {label.index: label.score for label in single.results[0].labels}
        got = {label.index: label.score for label in result.labels}
        np.testing.assert_allclose([got[i] for i in range(10)], [want[i] for i in range(10)], atol=1e-5)


def every_kind() -> list[vision_pb2.Image]:
    """Pictures of all kinds that are taken: modes, depths, orientations, animations, files and tensors."""
    grey, colour = drawing(1), quarters(28, 28)
    clear = grey.convert("RGBA")
    turned = Image.Exif()
    turned[0x0112] = 6
    frames = [drawing(seed).convert("P") for seed in range(3)]
    files = [
        encode(grey, "PNG"),
        encode(colour.convert("CMYK"), "JPEG", quality=95),
        encode(colour, "JPEG", quality=95, exif=turned),
        encode(colour.resize((400, 300)), "JPEG", quality=95, progressive=True),
        encode(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        encode(clear, "WEBP", lossless=True, save_all=True, append_images=[drawing(9).convert("RGBA")]),
        encode(colour.quantize(16), "PNG", transparency=0),
        encode(grey.convert("1"), "BMP"),
        png(28, 28, 16, 0, b"".join(b"\0" + bytes(range(56)) for _ in range(28))),
    ]
    arrays = [np.asarray(colour), np.asarray(colour.convert("RGBA")), np.asarray(grey)[:, :, None], normalised(2)]
    return [vision_pb2.Image(encoded=file) for file in files] + [tensor(array) for array in arrays]


async def test_pictures_of_every_kind_travel_together(stub: Stub) -> None:
    pictures = every_kind()
    together = await stub.Classify(classify(pictures, top_k=10))
    for picture, result in zip(pictures, together.results, strict=True):
        lone = (await stub.Classify(classify([picture], top_k=10))).results[0]
        want = {label.index: label.score for label in lone.labels}
        assert len(want) == 10
        for label in result.labels:
            assert label.score == pytest.approx(want[label.index], abs=1e-5)


async def test_bad_ones_of_every_kind_are_all_named(stub: Stub) -> None:
    pictures = every_kind()
    bad = {
        1: vision_pb2.Image(encoded=pictures[1].encoded[:-200]),
        4: vision_pb2.Image(encoded=b"GIF89a"),
        8: vision_pb2.Image(encoded=png(30_000, 30_000, 16, 0, b"")),
        9: tensor(np.zeros((0, 28, 3), np.uint8)),
        12: tensor(np.full((1, 28, 28), np.inf, np.float32)),
    }
    for index, picture in bad.items():
        pictures[index].CopyFrom(picture)
    code, _, violations = await refusal(stub.Classify(classify(pictures)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert [int(field.split("[")[1].split("]")[0]) for field in violations] == list(bad)


async def test_lists_of_pixels_are_read_off_the_event_loop(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def seen(tensor: tensor_pb2.Tensor, field: str) -> np.ndarray:
        threads.append(threading.current_thread())
        return to_numpy(tensor, field)

    monkeypatch.setattr(convert, "to_numpy", seen)
    pixels = np.asarray(drawing(7))[:, :, None]
    listed = vision_pb2.Image(
        pixels=tensor_pb2.Tensor(dtype=tensor_pb2.D_TYPE_UINT8, shape=pixels.shape, uint_values=pixels.ravel())
    )
    as_list, as_bytes = [await stub.Classify(classify([image])) for image in (listed, tensor(pixels))]
    assert as_list.results == as_bytes.results
    assert threads[0] is not threading.current_thread()
