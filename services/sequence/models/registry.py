"""Which net an architecture name stands for. Loads weights; knows no store, no service, no runner."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest
from services.runtime.weights import load_weights, without_weights
from services.sequence.models import bert, g2p, lstm, rnn, silero_vad
from services.sequence.models.samples import samples

__all__ = ["ARCHITECTURES", "Architecture", "build", "export", "load", "samples"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """How to build the net from `config`, and how its checkpoint's keys become parameter names."""

    build: Callable[[Mapping[str, Any]], nn.Module]
    rename: Mapping[str, str]
    ignore: Sequence[str] = ()


ARCHITECTURES: Mapping[str, Architecture] = {
    "silero_vad": Architecture(silero_vad.SileroVAD, silero_vad.RENAME, silero_vad.IGNORE),
    "g2p": Architecture(g2p.GraphemeToPhoneme, g2p.RENAME),
    "lstm_classifier": Architecture(lstm.LstmClassifier, {}),
    "rnn_forecaster": Architecture(rnn.RnnForecaster, {}),
    "BertModel": Architecture(bert.BertModel, bert.RENAME, bert.IGNORE),
    "BertForSequenceClassification": Architecture(bert.BertForSequenceClassification, bert.RENAME, bert.IGNORE),
}


def build(architecture: str, config: Mapping[str, Any]) -> nn.Module:
    """The net with random weights, in eval mode."""
    return _find(architecture).build(config).eval()


def load(manifest: Manifest, directory: Path) -> nn.Module:
    """The net of `manifest` with the weights of `directory`/model.safetensors, in eval mode."""
    architecture = _find(manifest.architecture)
    with without_weights():
        module = architecture.build(manifest.config)
    load_weights(module, directory / "model.safetensors", architecture.rename, architecture.ignore)
    return module.eval()


def export(module: nn.Module, manifest: Manifest, path: Path) -> None:
    """The net as ONNX; what torch's exporter cannot follow is written here. Raises OnnxExporterError."""
    # Imported here: only who publishes needs ONNX's tools.
    from services.runtime.runners.export import export as traced
    from services.sequence.models import g2p_graph, lstm_graph

    if isinstance(module, lstm.LstmClassifier):
        lstm_graph.export(module, manifest, path)
    elif isinstance(module, g2p.GraphemeToPhoneme):
        g2p_graph.export(module, manifest, path)
    else:
        traced(module, manifest, path)


def _find(architecture: str) -> Architecture:
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise PreconditionFailed(f"architecture {architecture!r} is not a sequence model; known: {known}")
    return ARCHITECTURES[architecture]
