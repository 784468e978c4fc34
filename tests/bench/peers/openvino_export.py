"""Makes OpenVINO's own format of a checkpoint with optimum-intel: `python -m … CHECKPOINT FOLDER PRECISION`."""

import sys
from pathlib import Path
from shutil import copy

from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig

PRECISIONS = {
    "int8": OVWeightQuantizationConfig(bits=8),
    "int4": OVWeightQuantizationConfig(bits=4, group_size=64, ratio=1.0),
}


def main() -> None:
    checkpoint, folder, precision = sys.argv[1:]
    model = OVModelForCausalLM.from_pretrained(
        checkpoint, export=True, compile=False, quantization_config=PRECISIONS[precision]
    )
    model.save_pretrained(folder)
    copy(Path(checkpoint, "tokenizer.json"), folder)


if __name__ == "__main__":
    main()
