"""The g2p net: golden words, a slow numpy transcription of its formulas, and the batch law."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from services.runtime.store.manifest import Manifest
from services.sequence.models import registry

GOLDEN = {
    "computer": "K AH0 M P Y UW1 T ER0",
    "phoneme": "F OW1 N IY0 M",
    "tokenization": "T AA2 K AH0 N AH0 Z EY1 SH AH0 N",
}
CONFIG = {
    "hidden_size": 12,
    "start_id": 2,
    "stop_id": 3,
    "pad_id": 0,
    "max_output_tokens": 9,
    "graphemes": ["<pad>", "<unk>", "</s>", *"abcdef"],
    "phonemes": ["<pad>", "<unk>", "<s>", "</s>", *"ABCDEFG"],
}
Array = NDArray[np.float32]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def batch(words: list[list[int]]) -> tuple[Tensor, Tensor]:
    width = max(map(len, words))
    return torch.tensor([w + [0] * (width - len(w)) for w in words]), torch.tensor([len(w) for w in words])


def gru_step(x: Array, h: Array, p: dict[str, Array], at: str, suffix: str) -> Array:
    """One step of a GRU (Cho et al. 2014) with gates in the order reset, update, new."""
    inward = p[f"{at}.weight_ih{suffix}"] @ x + p[f"{at}.bias_ih{suffix}"]
    across = p[f"{at}.weight_hh{suffix}"] @ h + p[f"{at}.bias_hh{suffix}"]
    (ir, iz, new_in), (hr, hz, new_hidden) = np.split(inward, 3), np.split(across, 3)
    reset, update = 1 / (1 + np.exp(-(ir + hr))), 1 / (1 + np.exp(-(iz + hz)))
    return (1 - update) * np.tanh(new_in + reset * new_hidden) + update * h


def slow(module: nn.Module, word: list[int]) -> list[int]:
    p = {key: value.numpy() for key, value in module.state_dict().items()}
    hidden = np.zeros(CONFIG["hidden_size"], np.float32)
    for letter in word:
        hidden = gru_step(p["encoder_embedding.weight"][letter], hidden, p, "encoder", "_l0")
    written, token = [], 2
    while len(written) < 9 and token != 3:
        hidden = gru_step(p["decoder_embedding.weight"][token], hidden, p, "decoder", "")
        token = int((p["head.weight"] @ hidden + p["head.bias"]).argmax())
        written.append(token)
    return written


def test_equals_the_formulas_written_out_slowly() -> None:
    torch.manual_seed(5)
    module = registry.build("g2p", CONFIG)
    words = [[3, 4, 5, 2], [6, 2], [8, 7, 6, 5, 4, 3, 2]]
    phonemes, _ = module(*batch(words))
    for row, word in zip(phonemes.tolist(), words, strict=True):
        wanted = slow(module, word)
        assert row == wanted + [0] * (len(row) - len(wanted))


def test_log_probs_are_those_of_the_chosen_and_zero_after_the_stop() -> None:
    torch.manual_seed(5)
    phonemes, log_probs = registry.build("g2p", CONFIG)(*batch([[3, 2], [8, 7, 2]]))
    assert log_probs.shape == phonemes.shape
    assert bool((log_probs <= 0).all())
    assert bool((log_probs[phonemes == 0] == 0).all())


def transcribe(module: nn.Module, manifest: Manifest, words: list[str]) -> list[str]:
    table = {letter: index for index, letter in enumerate(manifest.config["graphemes"])}
    with torch.inference_mode():
        rows, _ = module(*batch([[table[letter] for letter in word] + [table["</s>"]] for word in words]))
    symbols = manifest.config["phonemes"]
    return [" ".join(symbols[i] for i in row if i > 3) for row in rows.tolist()]


@pytest.mark.models
def test_golden_words_alone_and_together(model_store: Any) -> None:
    manifest = model_store.resolve("g2p-en", "")
    module = registry.load(manifest, model_store.directory(manifest))
    assert transcribe(module, manifest, list(GOLDEN)) == list(GOLDEN.values())
    for word, phonemes in GOLDEN.items():
        assert transcribe(module, manifest, [word]) == [phonemes]
