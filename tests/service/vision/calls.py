"""What tests ask of the vision service, a digit net of random weights to ask, and how it refuses."""

import shutil
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
from maas.vision.v1 import vision_pb2, vision_service_pb2, vision_service_pb2_grpc
from services.runtime.store.store import ModelStore
from services.vision.models import registry
from services.vision.settings import VisionSettings
from tests.unit.vision.pictures import encode

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


def settings(store: ModelStore, **changes: object) -> VisionSettings:
    chosen = {
        "port": 0, "metrics_port": 0, "store": store.root, "lame_duck_s": 0, "drain_s": 5, "threads": 1,
        "image_classify_model": "digits", "image_embed_model": "digits",
    }  # fmt: skip
    return VisionSettings(**(chosen | changes))


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
