"""What is served: the ONNX files that all servers run, and a store of small models for ours. Serves none."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore
from tests.bench.options import Options
from tests.bench.peers import environments
from tests.bench.peers.serving.spec import Model, Tensor
from tests.bench.serving import peers
from tests.bench.serving.oip import Array

PICTURE, LSTM, MLP = "efficientnet-lite0", "lstm-classify", "mlp-mnist"
# Steps of a series; the data that the LSTM learns from has as many.
STEPS = 100
ONNX, TRAIN_S = "model.onnx", 900.0


def directory(store: Path, name: str) -> tuple[Manifest, Path]:
    """Of the newest version."""
    found = ModelStore(store)
    manifest = found.resolve(name)
    return manifest, found.directory(manifest)


def picture(store: Path, precision: str = "fp32") -> Model | None:
    """The net for pictures; None where the store has no file of that precision."""
    manifest, folder = directory(store, PICTURE)
    files = {"int8" in one.name: one for one in sorted(folder.glob("*.onnx"))}
    path = files.get(precision == "int8")
    return path and described(manifest, path, f"picture-{precision}")


def mlp(options: Options) -> Model:
    manifest, folder = directory(small(options), MLP)
    return described(manifest, folder / ONNX, MLP)


def lstm(options: Options) -> Model:
    """Every row is as long as the data that it learned from."""
    manifest, folder = directory(small(options), LSTM)
    series, lengths = manifest.inputs
    inputs = [Tensor(series.name, (STEPS, series.shape[2])), Tensor(lengths.name, (1,), "INT64", STEPS)]
    first = manifest.outputs[0]
    return Model(LSTM, str((folder / ONNX).absolute()), inputs, Tensor(first.name, first.shape[1:]))


def described(manifest: Manifest, path: Path, name: str) -> Model:
    """A file of a net whose inputs are all fixed but for the rows."""
    inputs = [Tensor(one.name, one.shape[1:]) for one in manifest.inputs]
    return Model(
        name, str(path.absolute()), inputs, Tensor(manifest.outputs[0].name, manifest.outputs[0].shape[1:])
    )


def small(options: Options) -> Path:
    """The store of the small models."""
    return options.home.absolute() / "serving" / "store"


async def prepare_small(options: Options) -> None:
    """Trains what is not there, half a minute each; once."""
    store, log = small(options), options.logs / "small_models.log"
    store.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    for name in (LSTM, MLP):
        if not list(store.glob(f"{name}/*/{ONNX}")):
            options.tell(f"training {name}")
            home = str(options.home / "serving" / "home")
            flags = ("--quick", "--publish", name, "--store", str(store), "--home", home)
            await environments.call(log, TRAIN_S, sys.executable, "-m", "cli", "train", name, *flags)


def filled(model: Model, rows: Array) -> dict[str, Array]:
    """The first input, and the constants beside it."""
    return {**peers.blank(model, len(rows)), model.inputs[0].name: rows}


def answers(model: Model, rows: Array) -> Array:
    """What the file itself says: the best class of each row, int64 [rows]."""
    session = onnxruntime.InferenceSession(model.onnx, providers=["CPUExecutionProvider"])
    ranks = {one.name: len(one.shape) for one in session.get_inputs()}
    feed = {name: array.reshape(array.shape[: ranks[name]]) for name, array in filled(model, rows).items()}
    found: Array = session.run([model.output.name], feed)[0]
    return np.argmax(found, axis=1)
