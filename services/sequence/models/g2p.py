"""Grapheme to phoneme: a GRU encoder reads the letters, a GRU decoder writes phonemes greedily.

Knows ids only; the tables of letters and phonemes are the caller's.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

RENAME = {
    r"^enc_emb$": "encoder_embedding.weight",
    r"^dec_emb$": "decoder_embedding.weight",
    r"^enc_w_(ih|hh)$": r"encoder.weight_\1_l0",
    r"^enc_b_(ih|hh)$": r"encoder.bias_\1_l0",
    r"^dec_w_(ih|hh)$": r"decoder.weight_\1",
    r"^dec_b_(ih|hh)$": r"decoder.bias_\1",
    r"^fc_w$": "head.weight",
    r"^fc_b$": "head.bias",
}


class GraphemeToPhoneme(nn.Module):
    """Encoder-decoder without attention: the encoder's last hidden state starts the decoder.

    `config`: graphemes, phonemes (tables), hidden_size, start_id, stop_id, pad_id (phoneme ids),
    max_output_tokens.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        hidden = int(config["hidden_size"])
        self.start_id, self.stop_id = int(config["start_id"]), int(config["stop_id"])
        self.pad_id, self.max_steps = int(config["pad_id"]), int(config["max_output_tokens"])
        self.encoder_embedding = nn.Embedding(len(config["graphemes"]), hidden)
        self.encoder = nn.GRU(hidden, hidden, batch_first=True)
        self.decoder_embedding = nn.Embedding(len(config["phonemes"]), hidden)
        self.decoder = nn.GRUCell(hidden, hidden)
        self.head = nn.Linear(hidden, len(config["phonemes"]))

    def forward(self, graphemes: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Greedy transcription.

        graphemes: int64 [B, T] right-padded, each row ended by the end-of-word id; lengths: int64 [B],
        ids of each row, at least 1. Returns phonemes int64 [B, S ≤ max_output_tokens], `stop_id` where a
        word ends and `pad_id` after it (a row without `stop_id` was cut), and log_probs float32 [B, S].
        """
        return self._decode(self._encode(graphemes, lengths))

    def _encode(self, graphemes: Tensor, lengths: Tensor) -> Tensor:
        """Hidden state [B, H] after each row's own last id: padding is never read."""
        packed = pack_padded_sequence(
            self.encoder_embedding(graphemes), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        hidden: Tensor = self.encoder(packed)[1]
        return hidden[0]

    def _decode(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        token = torch.full((hidden.shape[0],), self.start_id, dtype=torch.int64, device=hidden.device)
        stopped = torch.zeros_like(token, dtype=torch.bool)
        tokens: list[Tensor] = []
        log_probs: list[Tensor] = []
        while len(tokens) < self.max_steps and not bool(stopped.all()):
            hidden = self.decoder(self.decoder_embedding(token), hidden)
            best, token = torch.log_softmax(self.head(hidden), dim=-1).max(dim=-1)
            tokens.append(token.masked_fill(stopped, self.pad_id))
            log_probs.append(best.masked_fill(stopped, 0.0))
            stopped = stopped | (token == self.stop_id)
        return torch.stack(tokens, dim=1), torch.stack(log_probs, dim=1)
