"""Makes a W8A8 checkpoint in the compressed-tensors format: `python -m … CHECKPOINT FOLDER w8a8`.

Linear layers: weights in int8, symmetric, one scale a row; activations in int8, one scale a token, found as they
come. Embeddings and the head tied to them stay in fp32, as that format's recipes leave them.
"""

import json
import sys
from pathlib import Path
from shutil import copy
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

INT8 = {"num_bits": 8, "type": "int", "symmetric": True}
SCHEME: dict[str, Any] = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "linear": {
            "targets": ["Linear"],
            "weights": INT8 | {"strategy": "channel", "dynamic": False},
            "input_activations": INT8 | {"strategy": "token", "dynamic": True},
        }
    },
}
LARGEST = 127


def quantised(name: str, weight: Any) -> dict[str, Any]:
    """The tensors that stand for one: a linear layer's [out, in] → int8 and its fp32 scales [out, 1]."""
    if "_proj." not in name:
        return {name: weight}
    scale = np.abs(weight).max(axis=1, keepdims=True).astype(np.float32) / LARGEST
    scale[scale == 0] = 1
    return {name: np.rint(weight / scale).astype(np.int8), f"{name}_scale": scale}


def main() -> None:
    checkpoint, folder, _ = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    folder.mkdir()
    weights = load_file(checkpoint / "model.safetensors")
    tensors = {key: value for name, weight in weights.items() for key, value in quantised(name, weight).items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((checkpoint / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": SCHEME}, indent=1))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        copy(checkpoint / name, folder)


if __name__ == "__main__":
    main()
