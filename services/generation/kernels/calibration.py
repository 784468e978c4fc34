"""A text on its way through a plain net in floats, layer by layer: what each product is given. Rounds nothing."""

import torch
import torch.nn.functional as F
from torch import Tensor

from services.generation.models.attention import DenseAttention
from services.generation.models.layers import rotate
from services.generation.models.plain import Affine, PlainLayer, PlainLM

LENGTH = 256  # tokens that see each other


class Walk:
    """Holds the text's hidden states after the layers it has passed."""

    def __init__(self, model: PlainLM, ids: Tensor) -> None:
        """ids: int64 [tokens], cut to whole rows of LENGTH."""
        length = min(LENGTH, len(ids), model.config.max_position_embeddings)
        self._model, self._batch = model, len(ids) // length
        self._places = torch.arange(length).repeat(self._batch)
        self.hidden = model.embedding[ids[: self._batch * length]]
        if model.places is not None:
            self.hidden = self.hidden + model.places[self._places]

    def norm(self) -> Tensor:
        """[tokens, hidden]: what the next product of the stream is given."""
        return F.rms_norm(self.hidden, self.hidden.shape[-1:], eps=self._model.config.norm_eps)

    def through(self, layer: PlainLayer) -> dict[str, Tensor]:
        """One layer on; [tokens, inputs] of each of its products by name."""
        given = {"qkv": self.norm()}
        given["out"] = self._attention(_product(given["qkv"], layer.qkv), layer)
        self.hidden = self.hidden + _product(given["out"], layer.out)
        given["up"] = self.norm()
        given["down"] = self._activation(_product(given["up"], layer.up))
        self.hidden = self.hidden + _product(given["down"], layer.down)
        return given

    def _activation(self, x: Tensor) -> Tensor:
        if not self._model.gated:
            return F.gelu(x, approximate="tanh")
        gate, up = x.chunk(2, -1)
        return F.silu(gate) * up

    def _attention(self, x: Tensor, layer: PlainLayer) -> Tensor:
        config, width = self._model.config, self._model.config.head_dim
        sizes = [config.num_attention_heads * width, *[config.num_key_value_heads * width] * 2]
        q, k, v = (part.reshape(len(x), -1, width) for part in torch.split(x, sizes, -1))
        if layer.q_norm is not None and layer.k_norm is not None:
            q, k = (F.rms_norm(h, (width,), w, config.norm_eps) for h, w in ((q, layer.q_norm), (k, layer.k_norm)))
        if self._model.angles is not None:
            cosine, sine = (table[self._places].unsqueeze(1) for table in self._model.angles)
            q, k = rotate(q, cosine, sine), rotate(k, cosine, sine)
        return DenseAttention(self._batch, config.sliding_window)(0, q, k, v)


def _product(x: Tensor, affine: Affine) -> Tensor:
    return F.linear(x, affine.weight, affine.bias)
