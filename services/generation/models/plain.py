"""Any of the architectures as one plain shape: RMS norms without weights, fused linear layers, one activation.

Exact rewritings of the net, after which a single kernel serves them all and eight bits hold it: norm weights (and
LayerNorm's biases) go into the layers that follow; LayerNorm's mean goes out of whatever is added to the residual
stream (Ashkboos et al. 2024, SliceGPT, §3.1); the stream and the values of each head are turned by an orthogonal
matrix, which spreads outliers that one scale a row could not hold (Ashkboos et al. 2024, QuaRot).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from services.generation.models.causal_lm import CausalLM
from services.generation.models.config import ModelConfig
from services.generation.models.gpt2 import GPT2LMHeadModel
from services.generation.models.layers import RotaryAngles
from services.generation.models.llama import LlamaForCausalLM
from services.runtime.errors import PreconditionFailed

STREAM_SEED, VALUE_SEED = 1, 2
PRODUCTS = ("qkv", "out", "up", "down")


@dataclass(frozen=True, slots=True)
class Affine:
    """weight [out, in] and bias [out], float32."""

    weight: Tensor
    bias: Tensor | None = None

    def after(self, norm: Any) -> "Affine":
        """Made to follow the norm without its weight and bias."""
        shift = getattr(norm, "bias", None)
        shifted = self.bias if shift is None else self.weight @ shift + (0 if self.bias is None else self.bias)
        return Affine(self.weight * norm.weight, shifted)

    def turned_in(self, turn: Tensor) -> "Affine":
        """Takes x·turn in place of x."""
        return Affine(self.weight @ turn, self.bias)

    def turned_out(self, turn: Tensor) -> "Affine":
        """Gives y·turn in place of y."""
        return Affine(turn.T @ self.weight, None if self.bias is None else self.bias @ turn)


@dataclass(frozen=True, slots=True)
class PlainLayer:
    """Queries, keys and values in one; up [2 · inner, hidden] is gates, then ups, if the activation is gated."""

    qkv: Affine
    out: Affine
    up: Affine
    down: Affine
    q_norm: Tensor | None = None
    k_norm: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """A net as its class holds it; layers are made when they are asked for, one at a time."""

    config: ModelConfig
    gated: bool
    rotary: bool
    centred: bool  # its norms take the mean out
    tokens: Tensor
    places: Tensor | None
    head: Callable[[], Affine]
    layers: Callable[[], Iterator[PlainLayer]]


class PlainLM:
    """`embedding` [vocab, hidden], `places` [context, hidden] or None, `head`, and one layer after the other."""

    def __init__(self, net: CausalLM) -> None:
        """Raises PreconditionFailed for a net it has no rewriting of."""
        self._parts = _parts(net)
        self.config, self.gated = net.config, self._parts.gated
        self._turn = orthogonal(net.config.hidden_size, STREAM_SEED)
        self._turn_values = orthogonal(net.config.head_dim, VALUE_SEED)
        # What is added to the stream leaves its mean behind, where the norms would take it out.
        self._turn_added = self._turn - self._turn.mean(0) if self._parts.centred else self._turn

    @property
    def embedding(self) -> Tensor:
        return self._parts.tokens @ self._turn_added

    @property
    def places(self) -> Tensor | None:
        return None if self._parts.places is None else self._parts.places @ self._turn_added

    @property
    def head(self) -> Affine:
        return self._parts.head().turned_in(self._turn)

    @property
    def angles(self) -> tuple[Tensor, Tensor] | None:
        """cos and sin of the rotary angles by position, [context, head_dim / 2] each."""
        if not self._parts.rotary:
            return None
        every = torch.arange(self.config.max_position_embeddings)
        cosine, sine = RotaryAngles(self.config.head_dim, self.config.rope)(every)
        return cosine.squeeze(1), sine.squeeze(1)

    def layers(self) -> Iterator[PlainLayer]:
        for layer in self._parts.layers():
            qkv, out, up, down = (self.gives(name, self.takes(name, getattr(layer, name))) for name in PRODUCTS)
            yield replace(layer, qkv=qkv, out=out, up=up, down=down)

    def takes(self, product: str, affine: Affine) -> Affine:
        """Made to take the inputs that a product has here. Norms are the caller's: see `Affine.after`."""
        if product == "out":
            return self._from_values_turned(affine)
        return affine if product == "down" else affine.turned_in(self._turn)

    def gives(self, product: str, affine: Affine) -> Affine:
        """Made to give the outputs that a product has here."""
        if product == "qkv":
            return self._with_values_turned(affine)
        return affine if product == "up" else affine.turned_out(self._turn_added)

    def _with_values_turned(self, qkv: Affine) -> Affine:
        """Of the last kv_heads · head_dim outputs, each head by itself."""
        size = self.config.head_dim
        first = -self.config.num_key_value_heads * size
        values = self._turn_values.T @ qkv.weight[first:].reshape(-1, size, qkv.weight.shape[1])
        weight = torch.cat([qkv.weight[:first], values.flatten(0, 1)])
        if qkv.bias is None:
            return Affine(weight)
        shifts = qkv.bias[first:].view(-1, size) @ self._turn_values
        return Affine(weight, torch.cat([qkv.bias[:first], shifts.flatten()]))

    def _from_values_turned(self, out: Affine) -> Affine:
        heads = out.weight.reshape(len(out.weight), -1, self.config.head_dim) @ self._turn_values
        return Affine(heads.flatten(1), out.bias)


def orthogonal(size: int, seed: int) -> Tensor:
    """A random orthogonal matrix, float32 [size, size]: Q of the QR of a Gaussian one."""
    drawn = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found: Tensor = torch.linalg.qr(drawn).Q
    return found.float()


def _parts(net: CausalLM) -> Parts:
    if isinstance(net, LlamaForCausalLM):
        tokens, llama = net.embed_tokens.weight, net
        head = _head(net, tokens)
        return Parts(
            net.config,
            True,
            True,
            False,
            tokens,
            None,
            lambda: head.after(llama.norm),
            lambda: _llama_layers(llama),
        )
    if isinstance(net, GPT2LMHeadModel):
        tokens, gpt2 = net.wte.weight, net
        head, places = _head(net, tokens), net.wpe.weight
        return Parts(
            net.config,
            False,
            False,
            True,
            tokens,
            places,
            lambda: head.after(gpt2.ln_f),
            lambda: _gpt2_layers(gpt2),
        )
    raise PreconditionFailed(f"{type(net).__name__} has no eight-bit form")


def _head(net: LlamaForCausalLM | GPT2LMHeadModel, tokens: Tensor) -> Affine:
    return Affine(tokens if net.lm_head is None else net.lm_head.weight)


def _llama_layers(net: Any) -> Iterator[PlainLayer]:
    for block in net.layers:
        own, mlp = block.self_attn, block.mlp
        qkv = _stacked(own.q_proj, own.k_proj, own.v_proj).after(block.input_layernorm)
        up = _stacked(mlp.gate_proj, mlp.up_proj).after(block.post_attention_layernorm)
        norms = (own.q_norm.weight, own.k_norm.weight) if net.config.qk_norm else (None, None)
        yield PlainLayer(qkv, _stacked(own.o_proj), up, _stacked(mlp.down_proj), *norms)


def _gpt2_layers(net: Any) -> Iterator[PlainLayer]:
    for block in net.h:
        layers = (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj)
        qkv, out, up, down = (Affine(layer.weight.T, layer.bias) for layer in layers)
        yield PlainLayer(qkv.after(block.ln_1), out, up.after(block.ln_2), down)


def _stacked(*layers: nn.Linear) -> Affine:
    biases: list[Tensor] = [layer.bias for layer in layers if layer.bias is not None]
    return Affine(torch.cat([layer.weight for layer in layers]), torch.cat(biases) if biases else None)
