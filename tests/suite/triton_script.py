"""Run by test_oip: argv = address, picture. Our stubs must not be imported here: the descriptors would clash."""

import queue
import sys

import numpy as np
import tritonclient.grpc as triton
from PIL import Image
from tritonclient.utils import triton_to_np_dtype

LITE, DIGITS = "efficientnet-lite0", "mnist-cnn"


def pixels(path: str) -> np.ndarray:
    """The picture as the model's metadata says: short side 256, centre crop 224, (x - 127) / 128."""
    picture = Image.open(path).convert("RGB")
    scale = 256 / min(picture.size)
    picture = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.BICUBIC)
    left, top = (picture.width - 224) // 2, (picture.height - 224) // 2
    array = np.asarray(picture.crop((left, top, left + 224, top + 224)), np.float32)
    return ((array - 127) / 128).transpose(2, 0, 1)[None]


def given(client: triton.InferenceServerClient, array: np.ndarray, model: str = LITE) -> list[triton.InferInput]:
    name = client.get_model_metadata(model).inputs[0].name
    return [triton.InferInput(name, list(array.shape), "FP32").set_data_from_numpy(array)]


def infer(client: triton.InferenceServerClient, image: np.ndarray) -> None:
    metadata = client.get_model_metadata(LITE)
    assert (list(metadata.inputs[0].shape), metadata.inputs[0].datatype) == ([-1, 3, 224, 224], "FP32")
    result = client.infer(LITE, given(client, image), request_id="r1")
    assert result.get_response().id == "r1"
    print("class", int(result.as_numpy("logits")[0].argmax()))
    wanted = [triton.InferRequestedOutput("logits", class_count=3)]
    best = client.infer(LITE, given(client, image), outputs=wanted).as_numpy("logits")
    assert best.shape == (1, 3)
    value, index, label = best[0, 0].decode().split(":")
    assert float(value) == round(float(result.as_numpy("logits")[0].max()), 6) and index == "282"
    print("label", label)
    try:
        client.infer("nope", given(client, image))
    except triton.InferenceServerException as error:
        assert error.status() == "StatusCode.NOT_FOUND", error.status()
    else:
        raise AssertionError("an unknown model was inferred")


def stream(client: triton.InferenceServerClient, image: np.ndarray) -> None:
    """Thirty pictures, each brighter; the answers are those of lone calls, in order."""
    rows = [image + number / 100 for number in range(30)]
    told: queue.Queue = queue.Queue()
    client.start_stream(lambda result, error: told.put((result, error)))
    for number, row in enumerate(rows):
        client.async_stream_infer(LITE, given(client, row), request_id=str(number))
    client.stop_stream()
    for number in range(len(rows)):
        result, error = told.get_nowait()
        assert error is None and result.get_response().id == str(number), error
        if number % 10 == 0:
            alone = client.infer(LITE, given(client, rows[number])).as_numpy("logits")
            np.testing.assert_allclose(result.as_numpy("logits"), alone, atol=1e-3)


def told(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live() and client.is_server_ready()
    (version,) = client.get_model_metadata(LITE).versions
    assert client.is_model_ready(LITE) and client.is_model_ready(LITE, version)
    config = client.get_model_config(LITE).config
    assert (config.max_batch_size, list(config.input[0].dims)) == (64, [3, 224, 224])
    assert config.output[0].label_filename == "labels.txt" and config.backend
    (stats,) = client.get_inference_statistics(LITE).model_stats
    assert stats.inference_stats.success.count >= 30 and stats.inference_count >= 30
    assert 0 < stats.execution_count <= stats.inference_stats.queue.count
    assert stats.inference_stats.compute_infer.ns > 0 and stats.last_inference


def everything(client: triton.InferenceServerClient) -> None:
    """Every model that is ready, by its metadata: each free axis 1, no sequence."""
    ready = [model for model in client.get_model_repository_index().models if model.state == "READY"]
    for model in ready:
        metadata = client.get_model_metadata(model.name, model.version)
        inputs = [
            filled(tensor.name, [abs(axis) for axis in tensor.shape], tensor.datatype)
            for tensor in metadata.inputs
        ]
        result = client.infer(model.name, inputs, model.version)
        for tensor in metadata.outputs:
            array = result.as_numpy(tensor.name)
            wanted = [1 if axis == -1 else axis for axis in tensor.shape]
            assert list(array.shape) == wanted, (model.name, tensor.name, array.shape)
    print("models", *sorted(model.name for model in ready))


def filled(name: str, shape: list[int], datatype: str) -> triton.InferInput:
    text = np.full(shape, b"hello", dtype=np.object_)
    array = text if datatype == "BYTES" else np.ones(shape, triton_to_np_dtype(datatype))
    return triton.InferInput(name, shape, datatype).set_data_from_numpy(array)


def load(client: triton.InferenceServerClient) -> None:
    def ready() -> set[str]:
        return {model.name for model in client.get_model_repository_index().models if model.state == "READY"}

    zeros = np.zeros((1, 1, 28, 28), np.float32)
    assert {LITE, DIGITS} <= ready()
    digits = given(client, zeros, DIGITS)
    client.unload_model(DIGITS)
    assert DIGITS not in ready() and not client.is_model_ready(DIGITS)
    client.load_model(DIGITS)
    assert DIGITS in ready()
    assert client.infer(DIGITS, digits).as_numpy("logits").shape == (1, 10)


def main(address: str, path: str) -> None:
    image = pixels(path)
    with triton.InferenceServerClient(address) as client:
        infer(client, image)
        stream(client, image)
        told(client)
        everything(client)
        load(client)
    print("all well")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
