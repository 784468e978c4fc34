"""GPT-2 (Radford et al. 2019). Knows nothing of caches or sampling."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from services.generation.models.attention import Attend
from services.generation.models.causal_lm import CausalLM
from services.generation.models.config import ModelConfig
from services.generation.models.layers import Conv1D

RENAME: Mapping[str, str] = {r"^transformer\.": ""}
IGNORE = (r"\.attn\.bias$", r"\.attn\.masked_bias$")  # old checkpoints store the causal mask


class SelfAttention(nn.Module):
    """Multi-head attention; the `attend` given at call time mixes the tokens."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.c_attn = Conv1D(config.hidden_size, 3 * config.hidden_size)
        self.c_proj = Conv1D(config.hidden_size, config.hidden_size)
        self.head_dim = config.head_dim

    def forward(self, x: Tensor, layer: int, attend: Attend) -> Tensor:
        heads = (part.unflatten(-1, (-1, self.head_dim)) for part in self.c_attn(x).chunk(3, dim=-1))
        mixed: Tensor = self.c_proj(attend(layer, *heads))
        return mixed


class Mlp(nn.Module):
    """Two layers around the tanh form of GELU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.c_fc = Conv1D(config.hidden_size, config.intermediate_size)
        self.c_proj = Conv1D(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))
        return out


class Block(nn.Module):
    """Pre-norm attention and MLP, each with a residual."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.attn = SelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor, layer: int, attend: Attend) -> Tensor:
        x = x + self.attn(self.ln_1(x), layer, attend)
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class GPT2LMHeadModel(CausalLM):
    """Learned positions, blocks, norm, and a head that may be the embedding itself."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.wpe = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.h = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.ln_f = nn.LayerNorm(config.hidden_size, config.norm_eps)
        tied = config.tie_word_embeddings
        self.lm_head = None if tied else nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def hidden(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        x = self.wte(tokens) + self.wpe(positions)
        for layer, block in enumerate(self.h):
            x = block(x, layer, attend)
        out: Tensor = self.ln_f(x)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        head = self.wte if self.lm_head is None else self.lm_head
        return F.linear(hidden, head.weight)
