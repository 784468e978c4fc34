"""Samples are inputs that every architecture accepts, whatever its limits."""

from typing import Any

import pytest
import torch

from services.runtime.store.manifest import Manifest, TensorSpec
from services.sequence.models import registry

BERT = {
    "vocab_size": 5,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 6,
}
G2P = {
    "hidden_size": 4,
    "start_id": 2,
    "stop_id": 3,
    "pad_id": 0,
    "max_output_tokens": 5,
    "graphemes": list("abcde"),
    "phonemes": list("ABCDE"),
}
RECURRENT = {"features": 3, "hidden_sizes": [5, 4], "classes": 2}
INTEGERS = {
    "BertModel": ("input_ids", "attention_mask", "token_type_ids"),
    "BertForSequenceClassification": ("input_ids", "attention_mask", "token_type_ids"),
    "g2p": ("graphemes", "lengths"),
}


def inputs_of(architecture: str) -> tuple[TensorSpec, ...]:
    if architecture == "silero_vad":
        shapes = {"audio": (-1, 512), "state": (2, -1, 128), "context": (-1, 64)}
        return tuple(TensorSpec(name=n, dtype="float32", shape=s) for n, s in shapes.items())
    if architecture == "rnn_forecaster":
        return (TensorSpec(name="window", dtype="float32", shape=(-1, 6, 3)),)
    if architecture == "lstm_classifier":
        series = TensorSpec(name="series", dtype="float32", shape=(-1, -1, 3))
        return (series, TensorSpec(name="lengths", dtype="int64", shape=(-1,)))
    names = INTEGERS[architecture]
    return tuple(TensorSpec(name=n, dtype="int64", shape=(-1,) if n == "lengths" else (-1, -1)) for n in names)


@pytest.mark.parametrize("architecture", list(registry.ARCHITECTURES))
@pytest.mark.parametrize("rows", [1, 5])
def test_every_architecture_answers_its_samples(architecture: str, rows: int) -> None:
    own = {"silero_vad": {}, "g2p": G2P, "rnn_forecaster": RECURRENT, "lstm_classifier": RECURRENT}
    config: dict[str, Any] = own.get(architecture, BERT)
    inputs = inputs_of(architecture)
    manifest = Manifest(name="x", version=1, tasks=("sequence.embed",), config=config, inputs=inputs)
    (sample,) = registry.samples(manifest, [rows])
    with torch.inference_mode():
        outputs = registry.build(architecture, config)(*(torch.from_numpy(sample[s.name]) for s in inputs))
    assert outputs[0].shape[0] == rows
    assert all(bool(output.isfinite().all()) for output in outputs)
