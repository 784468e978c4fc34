"""BERT encoder (Devlin et al. 2018, arXiv:1810.04805), post-norm, with an optional classifier on top.

Knows ids and masks; no text, no pooling over tokens, no labels' names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.runtime.errors import PreconditionFailed

RENAME = {
    r"^bert\.": "",
    r"^encoder\.layer\.": "layers.",
    r"\.attention\.self\.": ".",
    r"\.attention\.output\.dense\.": ".attention_out.",
    r"\.attention\.output\.LayerNorm\.": ".attention_norm.",
    r"\.intermediate\.dense\.": ".up.",
    r"\.output\.dense\.": ".down.",
    r"\.output\.LayerNorm\.": ".norm.",
    r"^embeddings\.LayerNorm\.": "embedding_norm.",
    r"^embeddings\.": "",
    r"^pooler\.dense\.": "pooler.",
    r"\.gamma$": ".weight",
    r"\.beta$": ".bias",
}
IGNORE = (r"position_ids$", r"^cls\.")


@dataclass(frozen=True, slots=True)
class BertConfig:
    """The keys of a BERT `config.json` that decide the net; the others are left alone."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    num_labels: int = 2

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "BertConfig":
        """Pick known keys; raises PreconditionFailed for variants that would compute something else."""
        for key, served in (("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
            if config.get(key, served) != served:
                raise PreconditionFailed(f"{key} = {config[key]!r} is not supported, only {served!r}")
        known = {key: config[key] for key in cls.__slots__ if key in config}
        if "num_labels" not in known and "id2label" in config:
            known["num_labels"] = len(config["id2label"])
        return cls(**known)


class BertLayer(nn.Module):
    """Self-attention, then a feed-forward net of two; each added to its input and normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.heads = config.num_attention_heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.attention_out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps)
        self.up = nn.Linear(width, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, width)
        self.norm = nn.LayerNorm(width, eps)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """hidden: [B, T, D]; mask: bool [B, 1, 1, T], True where a key may be seen."""
        attended: Tensor = self.attention_norm(hidden + self._attend(hidden, mask))
        mixed: Tensor = self.norm(attended + self.down(F.gelu(self.up(attended))))
        return mixed

    def _attend(self, hidden: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (self._split(p(hidden)) for p in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        out: Tensor = self.attention_out(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, projected: Tensor) -> Tensor:
        """[B, T, D] → [B, heads, T, D / heads]."""
        batch, length, width = projected.shape
        return projected.view(batch, length, self.heads, width // self.heads).transpose(1, 2)


class BertModel(nn.Module):
    """The encoder with its pooler."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = c = BertConfig.of(config)
        self.word_embeddings = nn.Embedding(c.vocab_size, c.hidden_size)
        self.position_embeddings = nn.Embedding(c.max_position_embeddings, c.hidden_size)
        self.token_type_embeddings = nn.Embedding(c.type_vocab_size, c.hidden_size)
        self.embedding_norm = nn.LayerNorm(c.hidden_size, c.layer_norm_eps)
        self.layers = nn.ModuleList(BertLayer(c) for _ in range(c.num_hidden_layers))
        self.pooler = nn.Linear(c.hidden_size, c.hidden_size)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, Tensor]:
        """All inputs int64 [B, T], right-padded; mask 1 on real tokens, at least one in each row.

        Returns last_hidden_state float32 [B, T, D] and pooler_output [B, D] (tanh layer on the first token).
        Values at padded positions mean nothing.
        """
        hidden = self._embed(input_ids, token_type_ids)
        mask = attention_mask.bool()[:, None, None, :]
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return hidden, torch.tanh(self.pooler(hidden[:, 0]))

    def _embed(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        words = self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids)
        hidden: Tensor = self.embedding_norm(words + self.position_embeddings(positions))
        return hidden


class BertForSequenceClassification(BertModel):
    """The encoder with a linear classifier on the pooled first token."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.classifier = nn.Linear(self.config.hidden_size, self.config.num_labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor]:  # type: ignore[override]
        """As the encoder; returns logits float32 [B, num_labels]."""
        pooled = super().forward(input_ids, attention_mask, token_type_ids)[1]
        return (self.classifier(pooled),)
