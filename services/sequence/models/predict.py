"""Rows of ids, or whole series → answers, many rows at a time. Knows no proto, no text, no queue."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from services.runtime.runners.base import Array
from services.runtime.store.manifest import Manifest
from services.sequence.models.encode import Floats, Ids, pad
from services.sequence.models.net import Net

# Rows that ONNX Runtime's recurrent layers take soonest: of more, the gates leave the nearest cache.
AT_ONCE = 16
FEATURES = "features"  # the output of a classifier that also embeds

Answer = Callable[[list[Floats]], list[Array]]


def predict_rows(net: Net, rows: Sequence[Ids]) -> list[Array]:
    """One answer a row, in order: sentence vector [D], class probabilities [K] or output ids [≤ S].

    Rows of like length share a batch, so that no row is padded to more than twice its length.
    """
    answers: dict[int, Array] = {}
    for chosen in _alike(rows):
        found = _predict_alike(net, [rows[index] for index in chosen])
        answers.update(zip(chosen, found, strict=True))
    return [answers[index] for index in range(len(rows))]


def predict_series(net: Net, rows: Sequence[Floats]) -> list[Array]:
    """Class probabilities [K] for each row of standard scores [T, F]; rows of like length share a batch."""
    first = net.manifest.outputs[0].name
    return _by_length(net, rows, lambda chosen: list(softmax(_run_series(net, chosen)[first])))


def embed_series(net: Net, rows: Sequence[Floats]) -> list[Array]:
    """What a net made of each row of standard scores [T, F] before it judged it: [D]."""
    return _by_length(net, rows, lambda chosen: list(_run_series(net, chosen)[FEATURES]))


def _by_length(net: Net, rows: Sequence[Floats], answer: Answer) -> list[Array]:
    answers: dict[int, Array] = {}
    most = AT_ONCE if net.manifest.runner == "onnxruntime" else len(rows)
    for alike in _alike(rows):
        for at in range(0, len(alike), most):
            chosen = alike[at : at + most]
            answers.update(zip(chosen, answer([rows[index] for index in chosen]), strict=True))
    return [answers[index] for index in range(len(rows))]


def _run_series(net: Net, rows: Sequence[Floats]) -> Mapping[str, Array]:
    lengths = np.array([len(row) for row in rows], np.int64)
    series = np.stack(rows) if (lengths == lengths[0]).all() else _padded(rows, int(lengths.max()))
    source, counts = (spec.name for spec in net.manifest.inputs)
    return net.runner.run({source: series, counts: lengths})


def _padded(rows: Sequence[Floats], length: int) -> Floats:
    """[B, length, F]; zeros after the end of a row."""
    series = np.zeros((len(rows), length, rows[0].shape[1]), np.float32)
    for row, values in zip(series, rows, strict=True):
        row[: len(values)] = values
    return series


def _alike(rows: Sequence[Array]) -> list[list[int]]:
    """Indices of rows, grouped by the power of two that holds their length."""
    groups: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault((len(row) - 1).bit_length(), []).append(index)
    return list(groups.values())


def _predict_alike(net: Net, rows: Sequence[Ids]) -> list[Array]:
    ids, mask, lengths = pad(rows, int(net.manifest.config.get("pad_token_id", 0)))
    known = {
        "input_ids": ids,
        "graphemes": ids,
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(ids),
        "lengths": lengths,
    }
    outputs = net.runner.run({spec.name: known[spec.name] for spec in net.manifest.inputs})
    if "phonemes" in outputs:
        return list(outputs["phonemes"])
    if "logits" in outputs:
        return list(softmax(outputs["logits"]))
    return list(_pool(outputs, mask, net.manifest))


def _pool(outputs: Mapping[str, Array], mask: Ids, manifest: Manifest) -> Floats:
    """[B, T, D] hidden states → [B, D]: the first token's, or the mean over real tokens."""
    hidden: Floats = outputs["last_hidden_state"]
    if manifest.preprocessing.get("pooling", "mean") == "cls":
        return hidden[:, 0]
    weights = (mask / mask.sum(axis=1, keepdims=True)).astype(hidden.dtype)
    pooled: Floats = (weights[:, None, :] @ hidden)[:, 0]
    return pooled


def softmax(logits: Floats) -> Floats:
    """Probabilities over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def unit_length(vectors: Floats) -> Floats:
    """Rows divided by their Euclidean norm; a zero row stays zero."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Floats = vectors / np.maximum(norms, np.finfo(np.float32).tiny)
    return scaled
