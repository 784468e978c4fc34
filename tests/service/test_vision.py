"""The vision service over a real server and stub, with a digit net of random weights."""

import asyncio
import contextlib
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from PIL import Image
from safetensors.torch import save_file

from maas.common.v1 import tensor_pb2
from maas.model.v1 import model_service_pb2, model_service_pb2_grpc
from maas.oip.v1 import grpc_service_pb2, grpc_service_pb2_grpc
from maas.vision.v1 import vision_pb2, vision_service_pb2, vision_service_pb2_grpc
from services.runtime.server import Floor
from services.runtime.store.store import ModelStore
from services.runtime.tensors import to_numpy
from services.vision import convert
from services.vision.__main__ import build
from services.vision.models import registry
from services.vision.settings import VisionSettings
from tests.harness import running
from tests.unit.vision.pictures import encode, png, quarters

Stub = vision_service_pb2_grpc.VisionServiceStub
FIELDS = {
    "tasks": ["vision.classify", "vision.embed"],
    "architecture": "mnist_cnn",
    "labels": "labels.txt",
    "inputs": [{"name": "images", "dtype": "float32", "shape": [-1, 1, 28, 28]}],
    "outputs": [
        {"name": "logits", "dtype": "float32", "shape": [-1, 10]},
        {"name": "features", "dtype": "float32", "shape": [-1, 256]},
    ],
    "preprocessing": {
        "channels": 1, "resize": "exact", "size": 28, "crop": 0, "mean": [33.0], "std": [78.0],
    },
}  # fmt: skip


def publish(
    store: ModelStore, name: str, seed: int, beside: Path | None = None, **changes: object
) -> torch.nn.Module:
    """A digit net with the weights of `seed`, saved under its checkpoint's keys; the files of `beside` with it."""
    torch.manual_seed(seed)
    module = registry.build("mnist_cnn", {}).eval()
    keys = {
        "convs.0": "conv_layers.0", "convs.1": "conv_layers.3", "convs.2": "conv_layers.6",
        "hidden": "fc_layers.0", "classifier": "fc_layers.2",
    }  # fmt: skip
    state = {keys[k.rpartition(".")[0]] + "." + k.rpartition(".")[2]: v for k, v in module.state_dict().items()}
    with store.publish(name) as draft:
        save_file(state, draft.directory / "model.safetensors")
        for path in beside.iterdir() if beside else ():
            shutil.copy(path, draft.directory)
        (draft.directory / "labels.txt").write_text("".join(f"digit {n}\n" for n in range(10)))
        draft.fields.update(FIELDS | changes)
    return module


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    torch.set_num_threads(1)
    return ModelStore(tmp_path)


@pytest.fixture
def net(store: ModelStore) -> torch.nn.Module:
    return publish(store, "digits", seed=1)


def settings(store: ModelStore, **changes: object) -> VisionSettings:
    chosen = {
        "port": 0, "metrics_port": 0, "store": store.root, "lame_duck_s": 0, "drain_s": 5, "threads": 1,
        "image_classify_model": "digits", "image_embed_model": "digits",
    }  # fmt: skip
    return VisionSettings(**(chosen | changes))


@pytest.fixture
async def server(
    store: ModelStore, net: torch.nn.Module
) -> AsyncIterator[tuple[aio.Channel, Floor[VisionSettings]]]:
    async with running(settings(store), build) as started:
        yield started


@pytest.fixture
def stub(server: tuple[aio.Channel, Floor[VisionSettings]]) -> Stub:
    return Stub(server[0])


def drawing(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (28, 28), np.uint8))


def encoded(*seeds: int) -> list[vision_pb2.Image]:
    return [vision_pb2.Image(encoded=encode(drawing(seed), "PNG")) for seed in seeds]


def tensor(array: np.ndarray) -> vision_pb2.Image:
    dtype = {"uint8": tensor_pb2.D_TYPE_UINT8, "float32": tensor_pb2.D_TYPE_FP32}.get(
        str(array.dtype), tensor_pb2.D_TYPE_FP64
    )
    return vision_pb2.Image(pixels=tensor_pb2.Tensor(dtype=dtype, shape=array.shape, data=array.tobytes()))


def normalised(seed: int) -> np.ndarray:
    return (np.asarray(drawing(seed), np.float32)[None] - 33) / np.float32(78)


def classify(images: list[vision_pb2.Image], **fields: object) -> vision_service_pb2.ClassifyRequest:
    return vision_service_pb2.ClassifyRequest(images=images, **fields)


async def refusal(call: object) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """Code, text and field violations of a call that must fail."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    error = caught.value
    violations: dict[str, str] = {}
    trailers = dict(error.trailing_metadata() or ())
    for detail in status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b"")).details:
        found = error_details_pb2.BadRequest()
        if detail.Unpack(found):
            violations |= {violation.field: violation.description for violation in found.field_violations}
    return error.code(), error.details() or "", violations


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


async def test_every_bad_picture_is_named_and_none_is_answered(stub: Stub) -> None:
    images = encoded(0, 1, 2, 3)
    images[1].encoded = b"no picture"
    images[3].encoded = images[3].encoded[:60]
    code, _, violations = await refusal(stub.Classify(classify(images)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(violations) == ["images[1].encoded", "images[3].encoded"]
    assert "known format" in violations["images[1].encoded"] and "truncated" in violations["images[3].encoded"]


async def test_a_bomb_is_refused(stub: Stub) -> None:
    bomb = vision_pb2.Image(encoded=png(50_000, 50_000, 8, 2, b""))
    code, _, violations = await refusal(stub.Classify(classify([bomb])))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "pixels" in violations["images[0].encoded"]


@pytest.mark.parametrize(
    ("array", "field"),
    [
        (np.zeros((1, 27, 28), np.float32), "images[0].pixels.shape"),
        (np.full((1, 28, 28), np.nan, np.float32), "images[0].pixels"),
        (np.zeros((1, 28, 28), np.float64), "images[0].pixels.dtype"),
        (np.zeros((28, 28, 2), np.uint8), "images[0].pixels.shape"),
        (np.zeros((28, 0, 3), np.uint8), "images[0].pixels.shape"),
    ],
)
async def test_bad_tensors_are_named(stub: Stub, array: np.ndarray, field: str) -> None:
    code, _, violations = await refusal(stub.Classify(classify([tensor(array)])))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and list(violations) == [field]


async def test_a_tensor_of_the_wrong_length_is_named(stub: Stub) -> None:
    image = tensor(np.zeros((1, 28, 28), np.float32))
    image.pixels.data = image.pixels.data[:-4]
    code, _, violations = await refusal(stub.Classify(classify([image])))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "images[0].pixels.shape" in violations


@pytest.mark.parametrize("count", [0, 65])
async def test_one_to_sixty_four_pictures(stub: Stub, count: int) -> None:
    code, _, violations = await refusal(stub.Classify(classify(encoded(0) * count)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "images" in violations


async def test_sixty_four_pictures_come_back_in_order(stub: Stub) -> None:
    together = await stub.Classify(classify(encoded(*range(64)), top_k=10))
    alone = await asyncio.gather(*(stub.Classify(classify(encoded(seed), top_k=10)) for seed in range(64)))
    assert len(together.results) == 64 and together.timing.batch_size > 1
    for result, single in zip(together.results, alone, strict=True):
        want = {label.index: label.score for label in single.results[0].labels}
        got = {label.index: label.score for label in result.labels}
        np.testing.assert_allclose([got[i] for i in range(10)], [want[i] for i in range(10)], atol=1e-5)


async def test_an_overflowing_picture_does_not_fail_its_batch_mates(stub: Stub) -> None:
    huge = tensor(np.full((1, 28, 28), 3e38, np.float32))
    calls = [stub.Classify(classify(encoded(seed))) for seed in range(8)]
    bad = asyncio.ensure_future(refusal(stub.Classify(classify([*encoded(9), huge]))))
    replies = await asyncio.gather(*calls)
    code, _, violations = await bad
    assert all(len(reply.results) == 1 for reply in replies)
    assert code is grpc.StatusCode.INVALID_ARGUMENT and list(violations) == ["images[1].pixels"]


async def test_unknown_models_and_versions_are_not_found(stub: Stub) -> None:
    code, text, _ = await refusal(stub.Classify(classify(encoded(0), model="nothing")))
    assert code is grpc.StatusCode.NOT_FOUND and "digits" in text
    code, text, _ = await refusal(stub.Classify(classify(encoded(0), version="7")))
    assert code is grpc.StatusCode.NOT_FOUND


async def test_a_stream_answers_in_order(stub: Stub) -> None:
    sizes = [20, 1, 1, 7, 1, 1, 1, 3, 1, 1, 1, 1]
    requests = [classify(encoded(*range(n, n + size)), top_k=10) for n, size in enumerate(sizes)]
    messages = [vision_service_pb2.ClassifyStreamRequest(request=request) for request in requests]
    streamed = [reply.response async for reply in stub.ClassifyStream(iter(messages))]
    assert [len(reply.results) for reply in streamed] == sizes
    unary = [await stub.Classify(request) for request in requests]
    for one, other in zip(streamed, unary, strict=True):
        assert one.results[0].labels[0].index == other.results[0].labels[0].index


async def test_the_first_error_ends_the_stream_after_the_replies_before_it(stub: Stub) -> None:
    good = vision_service_pb2.ClassifyStreamRequest(request=classify(encoded(*range(16))))
    bad = vision_service_pb2.ClassifyStreamRequest(request=classify([vision_pb2.Image(encoded=b"?")]))
    got: list[object] = []

    async def read() -> None:
        async for reply in stub.ClassifyStream(iter([good, good, bad, good])):
            got.append(reply)  # noqa: PERF401 (the list must keep what came before the error)

    code, _, violations = await refusal(read())
    assert code is grpc.StatusCode.INVALID_ARGUMENT and list(violations) == ["request.images[0].encoded"]
    assert len(got) == 2


async def test_streams_wait_for_places_that_single_calls_are_refused(
    store: ModelStore, net: torch.nn.Module
) -> None:
    message = vision_service_pb2.ClassifyStreamRequest(request=classify(encoded(*range(64))))

    async def whole(stub: Stub) -> int:
        return len([reply async for reply in stub.ClassifyStream(iter([message] * 6))])

    async with running(settings(store, image_queue_limit=64, stream_images=64), build) as (channel, _):
        assert await asyncio.gather(*(whole(Stub(channel)) for _ in range(3))) == [6, 6, 6]


async def test_many_pixels_together_are_refused(store: ModelStore, net: torch.nn.Module) -> None:
    async with running(settings(store, request_megapixels=40), build) as (channel, _):
        images = [vision_pb2.Image(encoded=png(5000, 5000, 8, 2, b""))] * 2
        code, _, violations = await refusal(Stub(channel).Classify(classify(images)))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "50000000 pixels together, at most 40000000" in violations["images[1].encoded"]


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


async def test_a_cancelled_stream_leaves_nothing_running(
    stub: Stub, server: tuple[aio.Channel, Floor[VisionSettings]]
) -> None:
    async def endless() -> AsyncIterator[vision_service_pb2.ClassifyStreamRequest]:
        while True:
            yield vision_service_pb2.ClassifyStreamRequest(request=classify(encoded(0)))

    call = stub.ClassifyStream(endless())
    await call.read()
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError, aio.AioRpcError):
        await call.code()
    while server[1].admission.inside:
        await asyncio.sleep(0.01)
    assert (await stub.Classify(classify(encoded(0)))).results


async def test_a_spent_deadline_computes_nothing(stub: Stub) -> None:
    code, _, _ = await refusal(stub.Classify(classify(encoded(*range(64))), timeout=0.001))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_full_queue_refuses_with_a_hint(store: ModelStore, net: torch.nn.Module) -> None:
    async with running(settings(store, image_queue_limit=64, batch_images=1), build) as (channel, _):
        stub = Stub(channel)
        calls = [stub.Classify(classify(encoded(*range(64)))) for _ in range(8)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        errors = [outcome for outcome in outcomes if isinstance(outcome, aio.AioRpcError)]
        assert len(errors) < 8, "an accepted call must be answered"
        assert {error.code() for error in errors} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert (await stub.Classify(classify(encoded(0)))).results, "and the queue is free again"


async def test_a_forced_runner_is_part_of_the_digest_everywhere(store: ModelStore) -> None:
    publish(store, "digits", seed=1, runner="onnxruntime")  # not exported: only the forced runner can serve it
    async with running(settings(store, runner="torch"), build) as (channel, _):
        served = (await Stub(channel).Classify(classify(encoded(0)))).served_by
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        model = (await models.GetModel(model_service_pb2.GetModelRequest(model="digits"))).model
        assert (model.runner, model.digest) == ("torch", served.digest)
        assert served.digest != store.resolve("digits").digest


async def test_a_new_version_swaps_in_without_a_lost_call(
    server: tuple[aio.Channel, Floor[VisionSettings]], stub: Stub, store: ModelStore
) -> None:
    models = model_service_pb2_grpc.ModelServiceStub(server[0])
    publish(store, "digits", seed=2)
    swap = asyncio.ensure_future(models.LoadModel(model_service_pb2.LoadModelRequest(model="digits")))
    seen = []
    while not swap.done():
        seen.append((await stub.Classify(classify(encoded(0)))).served_by.version)
    await swap
    assert set(seen) <= {"1", "2"} and seen == sorted(seen)
    assert (await stub.Classify(classify(encoded(0)))).served_by.version == "2"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"preprocessing": {"sise": 3}}, "sise"),
        ({"architecture": "resnet50"}, "resnet50"),
        ({"outputs": FIELDS["outputs"][:1]}, "gives logits and features"),
        ({"inputs": [{"name": "images", "dtype": "float32", "shape": [-1, 784]}]}, "takes one [-1, C, H, W]"),
        ({"labels": None}, "0 labels"),
        ({"preprocessing": FIELDS["preprocessing"] | {"size": 32}}, "gives (1, 32, 32)"),
        ({"config": {"classes": 11}}, "misshapen"),
        ({"runner": "onnxruntime"}, "has no model.onnx"),
    ],
)
async def test_a_broken_version_leaves_the_old_one_serving(
    server: tuple[aio.Channel, Floor[VisionSettings]],
    stub: Stub,
    store: ModelStore,
    changes: dict[str, object],
    told: str,
) -> None:
    publish(store, "digits", seed=3, **changes)
    models = model_service_pb2_grpc.ModelServiceStub(server[0])
    code, text, _ = await refusal(models.LoadModel(model_service_pb2.LoadModelRequest(model="digits")))
    assert code is grpc.StatusCode.FAILED_PRECONDITION and told in text
    assert (await stub.Classify(classify(encoded(0)))).served_by.version == "1"


def infer(array: np.ndarray, name: str = "images") -> grpc_service_pb2.ModelInferRequest:
    tensor = grpc_service_pb2.ModelInferRequest.InferInputTensor(name=name, datatype="FP32", shape=array.shape)
    return grpc_service_pb2.ModelInferRequest(
        model_name="digits", inputs=[tensor], raw_input_contents=[array.tobytes()]
    )


async def test_open_inference_gives_the_nets_logits(
    server: tuple[aio.Channel, Floor[VisionSettings]], net: torch.nn.Module
) -> None:
    protocol = grpc_service_pb2_grpc.GRPCInferenceServiceStub(server[0])
    batch = np.stack([normalised(seed) for seed in range(3)])
    reply = await protocol.ModelInfer(infer(batch))
    with torch.inference_mode():
        wanted = net(torch.from_numpy(batch))
    assert [output.name for output in reply.outputs] == ["logits", "features"]
    for output, raw, want in zip(reply.outputs, reply.raw_output_contents, wanted, strict=True):
        got = np.frombuffer(raw, "<f4").reshape(tuple(output.shape))
        np.testing.assert_allclose(got, want.numpy(), atol=1e-5)


async def test_open_inference_metadata_can_be_inferred_as_it_stands(
    server: tuple[aio.Channel, Floor[VisionSettings]],
) -> None:
    protocol = grpc_service_pb2_grpc.GRPCInferenceServiceStub(server[0])
    assert (await protocol.ServerReady(grpc_service_pb2.ServerReadyRequest())).ready
    metadata = await protocol.ModelMetadata(grpc_service_pb2.ModelMetadataRequest(name="digits"))
    (described,) = metadata.inputs
    assert (described.name, described.datatype, list(described.shape)) == ("images", "FP32", [-1, 1, 28, 28])
    ones = np.zeros([abs(axis) for axis in described.shape], np.float32)
    assert (await protocol.ModelInfer(infer(ones))).outputs


@pytest.mark.parametrize(
    ("array", "name", "field"),
    [
        (np.full((2, 1, 28, 28), np.nan, np.float32), "images", "inputs[0][0]"),
        (np.zeros((65, 1, 28, 28), np.float32), "images", "inputs[0].shape"),
        (np.zeros((1, 1, 28, 27), np.float32), "images", "inputs[0].shape"),
        (np.zeros((1, 1, 28, 28), np.float32), "picture", "inputs[0].name"),
    ],
)
async def test_open_inference_names_what_is_wrong(
    server: tuple[aio.Channel, Floor[VisionSettings]], array: np.ndarray, name: str, field: str
) -> None:
    protocol = grpc_service_pb2_grpc.GRPCInferenceServiceStub(server[0])
    code, _, violations = await refusal(protocol.ModelInfer(infer(array, name)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and field in violations


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
