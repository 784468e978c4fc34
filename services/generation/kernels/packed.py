"""A packed file as the structures that the kernels read. Knows no net."""

import ctypes
import json
import math
import struct
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from services.generation.kernels.native import BLOCK, Layer, Linear, Model
from services.generation.kernels.packing import spread_block
from services.generation.models.config import ModelConfig
from services.runtime.errors import PreconditionFailed
from services.runtime.store.files import sha256_file

SILU_GATED, GELU_TANH = 0, 1
TABLES = frozenset({"embedding", "places", "cosine", "sine"})
DTYPES = {"I8": torch.int8, "I32": torch.int32, "F32": torch.float32}  # of what is no table
CACHE_LINE, LARGE_PAGE = 64, 1 << 21
MADV_HUGEPAGE = 14  # advice alone: where it is not taken, pages are small


class Entry(NamedTuple):
    """Where a tensor lies in its file, in bytes, and what it is."""

    begin: int
    size: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    @classmethod
    def of(cls, told: dict[str, Any], first: int) -> "Entry":
        begin, end = told["data_offsets"]
        return cls(first + begin, end - begin, DTYPES[told["dtype"]], tuple(told["shape"]))


class PackedModel:
    """Holds the file's tensors, mapped, for as long as `model` points into them. `digest`: of the file's bytes,
    which hang on its format, on the calibration, and on the machine that made it."""

    def __init__(self, path: Path, config: ModelConfig) -> None:
        try:
            self._tensors = _resident(path)
        except SafetensorError as error:
            raise PreconditionFailed(f"{path} is damaged: {error}; delete it") from error
        self.digest = sha256_file(path)
        self._config = config
        self._layers = (Layer * config.num_hidden_layers)(*map(self._layer, range(config.num_hidden_layers)))
        self.model = Model(
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            inner=config.intermediate_size,
            layers=config.num_hidden_layers,
            activation=SILU_GATED if "cosine" in self._tensors else GELU_TANH,
            window=config.sliding_window or 0,
            spread=spread_block(config.intermediate_size),
            eps=config.norm_eps,
            embedding=self._at("embedding"),
            places=self._at("places"),
            cosine=self._at("cosine"),
            sine=self._at("sine"),
            layer=ctypes.addressof(self._layers),
            head=self._linear("head", config.hidden_size),
        )

    def _layer(self, number: int) -> Layer:
        config = self._config
        wide = config.num_attention_heads * config.head_dim
        sizes = {
            "qkv": config.hidden_size,
            "out": wide,
            "up": config.hidden_size,
            "down": config.intermediate_size,
        }
        products = {name: self._linear(f"{number}.{name}", size) for name, size in sizes.items()}
        return Layer(**products, q_norm=self._at(f"{number}.q_norm"), k_norm=self._at(f"{number}.k_norm"))

    def _linear(self, name: str, inputs: int) -> Linear:
        parts = {part: self._at(f"{name}.{part}") for part in ("weight", "scale", "offset", "bias")}
        return Linear(inputs=inputs, outputs=len(self._tensors[f"{name}.scale"]), **parts)

    def _at(self, name: str) -> int | None:
        tensor = self._tensors.get(name)
        assert tensor is None or tensor.is_contiguous()
        return None if tensor is None else tensor.data_ptr()


def _resident(path: Path) -> dict[str, Tensor]:
    """The file's tensors on whole cache lines of one piece of memory, in large pages where the system has them:
    a pass reads all of it, and what is read is not mapped too. Tables, of which it reads rows, stay mapped."""
    with safe_open(path, framework="pt", device="cpu") as file:
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in TABLES.intersection(file.keys())}
    with path.open("rb") as bytes_:
        entries = _entries(bytes_)
        places = list(accumulate((_lines(told.size) for told in entries.values()), initial=0))
        memory = large_pages(places[-1])
        for place, (name, told) in zip(places, entries.items(), strict=False):
            there = memory[place : place + told.size]
            bytes_.seek(told.begin)
            if bytes_.readinto(there.data) != told.size:
                raise PreconditionFailed(f"{path} is cut short; delete it")
            tensors[name] = torch.from_numpy(there).view(told.dtype).view(told.shape)
    return tensors


def _entries(file: BinaryIO) -> dict[str, Entry]:
    """What a safetensors file holds beside tables: eight bytes of length, JSON, then bytes."""
    (length,) = struct.unpack("<Q", file.read(8))
    told: dict[str, Any] = json.loads(file.read(length))
    return {name: Entry.of(told[name], 8 + length) for name in told.keys() - TABLES - {"__metadata__"}}


def _lines(count: int) -> int:
    return -(-count // CACHE_LINE) * CACHE_LINE


def large_pages(count: int) -> NDArray[np.uint8]:
    """So many zeros, in large pages where the system has them. Memory comes with use: numpy's zeros are pages
    nobody has written, torch's are written."""
    whole = np.zeros(count + LARGE_PAGE, np.uint8)
    found = whole[-whole.ctypes.data % LARGE_PAGE :][:count]
    ctypes.CDLL(None).madvise(ctypes.c_void_p(found.ctypes.data), ctypes.c_size_t(count), MADV_HUGEPAGE)
    return found


def zero_cells(config: ModelConfig, num_blocks: int) -> Tensor:
    """KV cells, int8 [layers, blocks, kv heads, cell]; `attention.h` says what a cell holds."""
    shape = (config.num_hidden_layers, num_blocks, config.num_key_value_heads, cell_bytes(config))
    return torch.from_numpy(large_pages(math.prod(shape))).view(torch.int8).view(shape)


def cell_pointers(cells: Tensor) -> Any:
    """Where each layer's cells begin."""
    return (ctypes.c_void_p * len(cells))(*(layer.data_ptr() for layer in cells))


def cell_bytes(config: ModelConfig) -> int:
    """16 tokens of one KV head: keys, values, and a float scale each; whole cache lines."""
    return _lines(2 * BLOCK * (config.head_dim + 4))
