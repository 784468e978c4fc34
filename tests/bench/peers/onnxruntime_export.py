"""Makes ONNX Runtime GenAI's own format of a checkpoint: `python -m … CHECKPOINT FOLDER PRECISION`."""

import runpy
import sys


def main() -> None:
    """With the builder's defaults for a CPU: groups of 32, activations in eight bits."""
    checkpoint, folder, precision = sys.argv[1:]
    sys.argv = ["builder", "-i", checkpoint, "-o", folder, "-p", precision, "-e", "cpu", "-c", f"{folder}/cache"]
    runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__")


if __name__ == "__main__":
    main()
