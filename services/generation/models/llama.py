"""The Llama family: Llama, SmolLM2, TinyLlama, Mistral, Qwen2, Qwen3. Knows nothing of caches or sampling."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from services.generation.models.attention import Attend
from services.generation.models.causal_lm import CausalLM
from services.generation.models.config import ModelConfig
from services.generation.models.layers import GatedMlp, RMSNorm, RotaryAngles, rotate

RENAME: Mapping[str, str] = {r"^model\.": ""}


class SelfAttention(nn.Module):
    """Grouped-query attention with rotary positions; the `attend` given at call time mixes the tokens."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size, width = config.hidden_size, config.head_dim
        query, shared = config.num_attention_heads * width, config.num_key_value_heads * width
        self.q_proj = nn.Linear(size, query, bias=config.attention_bias)
        self.k_proj = nn.Linear(size, shared, bias=config.attention_bias)
        self.v_proj = nn.Linear(size, shared, bias=config.attention_bias)
        self.o_proj = nn.Linear(query, size, bias=False)
        self.q_norm = RMSNorm(width, config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(width, config.norm_eps) if config.qk_norm else nn.Identity()
        self.head_dim = width

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], layer: int, attend: Attend) -> Tensor:
        query, key, value = (
            project(x).unflatten(-1, (-1, self.head_dim)) for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        query = rotate(self.q_norm(query), *angles)
        key = rotate(self.k_norm(key), *angles)
        mixed: Tensor = self.o_proj(attend(layer, query, key, value))
        return mixed


class Block(nn.Module):
    """Pre-norm attention and gated MLP, each with a residual."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.self_attn = SelfAttention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = GatedMlp(config.hidden_size, config.intermediate_size)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], layer: int, attend: Attend) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), angles, layer, attend)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class LlamaForCausalLM(CausalLM):
    """Embedding, blocks, norm, and a head that may be the embedding itself."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self._angles = RotaryAngles(config.head_dim, config.rope)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        tied = config.tie_word_embeddings
        self.lm_head = None if tied else nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def hidden(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        angles = self._angles(positions)
        x = self.embed_tokens(tokens)
        for layer, block in enumerate(self.layers):
            x = block(x, angles, layer, attend)
        out: Tensor = self.norm(x)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        head = self.embed_tokens if self.lm_head is None else self.lm_head
        return F.linear(hidden, head.weight)
