"""Text drawn from a language model while it is at hand in training. Serving has an engine of its own."""

import torch
import torch.nn.functional as F
from torch import Tensor

from services.generation.models.causal_lm import CausalLM


class GrowingAttention:
    """Causal attention of `batch` equally long rows over all their tokens so far; keeps keys and values."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self._past: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query: [tokens, heads, d]; key, value: [tokens, kv heads, d] → [tokens, heads · d].

        The first call may bring many tokens a row, every later one brings one.
        """
        q, k, v = (x.view(self.batch, -1, *x.shape[1:]).transpose(1, 2) for x in (query, key, value))
        if layer in self._past:
            k, v = (torch.cat(pair, 2) for pair in zip(self._past[layer], (k, v), strict=True))
        self._past[layer] = k, v
        out = F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1, enable_gqa=True)
        return out.transpose(1, 2).flatten(0, 1).flatten(1)


@torch.inference_mode()
def sample(
    model: CausalLM, prompt: list[int], max_length: int, rows: int, temperature: float, seed: int
) -> list[list[int]]:
    """`rows` continuations of `prompt` up to `max_length` tokens with it, drawn from softmax(z / temperature).

    0 = greedy. Returns the whole rows; cutting them at an end token is the caller's.
    """
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    attend = GrowingAttention(rows)
    tokens = torch.tensor([prompt] * rows)
    place = torch.arange(len(prompt)).repeat(rows)
    fresh = tokens
    for length in range(len(prompt), min(max_length, model.config.max_position_embeddings)):
        hidden = model.hidden(fresh.flatten(), place, attend).view(rows, -1, model.config.hidden_size)
        fresh = drawn(model.logits(hidden[:, -1]), temperature, generator)
        tokens = torch.cat((tokens, fresh), 1)
        place = torch.full((rows,), length)
    return [[int(token) for token in row] for row in tokens]


def drawn(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """float [rows, vocab] → int64 [rows, 1]."""
    if temperature == 0:
        return logits.argmax(-1, keepdim=True)
    return torch.multinomial(F.softmax(logits.float() / temperature, -1), 1, generator=generator)
