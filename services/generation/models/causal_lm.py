"""What the engine and training ask of a language model. Knows no architecture."""

import torch
from torch import Tensor, nn

from services.generation.models.attention import Attend, DenseAttention
from services.generation.models.config import ModelConfig


class CausalLM(nn.Module):
    """Token ids → next-token logits. How tokens see each other is the caller's `attend`.

    An architecture gives `config`, `hidden` and `logits`; every other operation in it is per token, so packed
    tokens of many sequences may share one call.
    """

    config: ModelConfig

    def hidden(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """tokens, positions: int64 [tokens] → normalised last hidden state [tokens, hidden_size]."""
        raise NotImplementedError

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden: [tokens, hidden_size] → [tokens, vocab_size]."""
        raise NotImplementedError

    def forward(self, input_ids: Tensor) -> Tensor:
        """input_ids: int64 [batch, length] → logits [batch, length, vocab_size]; dense, no cache."""
        batch, length = input_ids.shape
        positions = torch.arange(length, device=input_ids.device).repeat(batch)
        attend = DenseAttention(batch, self.config.sliding_window)
        return self.logits(self.hidden(input_ids.flatten(), positions, attend)).view(batch, length, -1)
