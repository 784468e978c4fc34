"""What every server is told to serve, as JSON. Standard library only: peers read it in their environments."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

MOST_ROWS = 64
# What Triton adds to a name: as tuned, by its defaults, behind its cache.
FORMS = ("", "-defaults", "-cached")


@dataclass(frozen=True, slots=True)
class Tensor:
    """Shape of one row, at least one axis; `datatype` in the words of the Open Inference Protocol.

    constant: what every element of an INT64 is. A net that wants one number a row gets it without that axis.
    """

    name: str
    shape: Sequence[int]
    datatype: str = "FP32"
    constant: int = 0


@dataclass(frozen=True, slots=True)
class Model:
    """`onnx`: the file that all servers run. Free of spaces, its name is part of folders."""

    name: str
    onnx: str
    inputs: Sequence[Tensor]
    output: Tensor


@dataclass(frozen=True, slots=True)
class Spec:
    """`folder` is the server's to write in; `spare` are ports for whatever else it insists on.

    cores: instances of a tuned server, one thread each. forms: of a model, heeded by Triton alone.
    """

    folder: str
    port: int
    spare: Sequence[int]
    cores: int
    models: Sequence[Model]
    forms: Sequence[str] = FORMS

    def write(self) -> Path:
        """Into its folder; returns the file."""
        path = Path(self.folder) / "spec.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")
        return path


def told() -> Spec:
    """From the file that the first argument names."""
    read = json.loads(Path(sys.argv[1]).read_text())
    return Spec(**{**read, "models": [model(one) for one in read["models"]]})


def model(read: dict) -> Model:
    tensors = [Tensor(**one) for one in read["inputs"]]
    return Model(read["name"], read["onnx"], tensors, Tensor(**read["output"]))
