"""The tensors behind the KV blocks of one model. Knows block numbers, not sequences."""

import numpy as np
import torch
from torch import Tensor

from services.generation.engine.device import CPU
from services.generation.models.config import ModelConfig


def bytes_per_token(config: ModelConfig, dtype: torch.dtype = torch.float32) -> int:
    """Keys and values of one token in all layers."""
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * dtype.itemsize


def blocks_in(budget_bytes: int, config: ModelConfig, block_size: int, dtype: torch.dtype = torch.float32) -> int:
    """Blocks that fit the budget; more than the model's context of a few sequences is for the caller to ask."""
    return budget_bytes // (bytes_per_token(config, dtype) * block_size)


class KVCache:
    """Keys and values a layer: [num_blocks · kv heads, block_size, head_dim], zero at first.

    Row b · kv_heads + h is head h of block b, so one gather gives contiguous keys a head.
    """

    def __init__(
        self,
        config: ModelConfig,
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device = CPU,
    ) -> None:
        shape = (num_blocks * config.num_key_value_heads, block_size, config.head_dim)
        self.kv_heads = config.num_key_value_heads
        self.block_size = block_size
        self.device = device
        self.keys = [_zeros(shape, dtype, device) for _ in range(config.num_hidden_layers)]
        self.values = [_zeros(shape, dtype, device) for _ in range(config.num_hidden_layers)]

    def slots(self, blocks: Tensor, offsets: Tensor) -> Tensor:
        """Where tokens go: [tokens] block numbers and offsets in them → [tokens · kv heads] flat rows."""
        rows = self.rows(blocks).view(-1, self.kv_heads)
        return (rows * self.block_size + offsets.unsqueeze(-1)).flatten()

    def rows(self, blocks: Tensor) -> Tensor:
        """[n] block numbers → [n · kv heads] rows of `keys` and `values`, block by block."""
        return (blocks.unsqueeze(-1) * self.kv_heads + self._heads(blocks)).flatten()

    def table_rows(self, tables: Tensor) -> Tensor:
        """[batch, n] block tables → [batch · kv heads · n] rows, head by head, for `gather`."""
        return (tables.unsqueeze(1) * self.kv_heads + self._heads(tables).view(-1, 1)).flatten()

    def _heads(self, like: Tensor) -> Tensor:
        return torch.arange(self.kv_heads, device=like.device)

    def write(self, layer: int, slots: Tensor, key: Tensor, value: Tensor) -> None:
        """key, value: [tokens, kv heads, head_dim] into their slots."""
        width = key.shape[-1]
        self.keys[layer].view(-1, width).index_copy_(0, slots, key.reshape(-1, width))
        self.values[layer].view(-1, width).index_copy_(0, slots, value.reshape(-1, width))

    def copy_block(self, source: int, target: int) -> None:
        """Every layer's keys and values of one block into another."""
        here, there = (slice(block * self.kv_heads, (block + 1) * self.kv_heads) for block in (source, target))
        for tensor in (*self.keys, *self.values):
            tensor[there] = tensor[here]

    def gather(self, layer: int, rows: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """Keys and values of `table_rows`, each [batch · kv heads, length, head_dim]."""
        shape = (batch * self.kv_heads, -1, self.keys[layer].shape[-1])
        return (
            self.keys[layer].index_select(0, rows).view(shape),
            self.values[layer].index_select(0, rows).view(shape),
        )


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """On the CPU memory comes with use: numpy's zeros are pages nobody has written, torch's are written."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros((*shape[:-1], shape[-1] * dtype.itemsize), np.uint8)).view(dtype)
