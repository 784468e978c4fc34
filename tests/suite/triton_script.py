"""Run by test_oip: argv = address, picture. Our stubs must not be imported here: the descriptors would clash."""

import sys

import numpy as np
import tritonclient.grpc as triton
from PIL import Image


def pixels(path: str) -> np.ndarray:
    """The picture as the model's metadata says: short side 256, centre crop 224, (x - 127) / 128."""
    picture = Image.open(path).convert("RGB")
    scale = 256 / min(picture.size)
    picture = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.BICUBIC)
    left, top = (picture.width - 224) // 2, (picture.height - 224) // 2
    array = np.asarray(picture.crop((left, top, left + 224, top + 224)), np.float32)
    return ((array - 127) / 128).transpose(2, 0, 1)[None]


def main(address: str, path: str) -> None:
    with triton.InferenceServerClient(address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("efficientnet-lite0")
        metadata = client.get_model_metadata("efficientnet-lite0")
        assert list(metadata.inputs[0].shape) == [-1, 3, 224, 224]
        assert metadata.inputs[0].datatype == "FP32"
        image = pixels(path)
        given = triton.InferInput(metadata.inputs[0].name, list(image.shape), "FP32")
        given.set_data_from_numpy(image)
        result = client.infer("efficientnet-lite0", [given], request_id="r1")
        assert result.get_response().id == "r1"
        print("class", int(result.as_numpy(metadata.outputs[0].name)[0].argmax()))
        try:
            client.infer("nope", [given])
        except triton.InferenceServerException as error:
            assert error.status() == "StatusCode.NOT_FOUND", error.status()
        else:
            raise AssertionError("an unknown model was inferred")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
