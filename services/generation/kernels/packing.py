"""Plain net → one file of packed bytes, made once for each version of a model and mapped ever after.

W8: each output's weights are bytes with one float scale, round(127 · w / max |w|) (Jacob et al. 2018, symmetric).
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from services.generation.kernels import compensated
from services.generation.kernels.calibration import Walk
from services.generation.kernels.native import PANEL
from services.generation.models.config import ModelConfig
from services.generation.models.plain import Affine, PlainLM
from services.runtime.store.files import fsync

FORMAT = 3  # of the file; another number makes every file anew
LANES = PANEL // 2
WIDEST_SPREAD = 512
STREAM_MULTIPLE = 32  # what the kernels' rows and panels divide
HEAD_MULTIPLE, WIDEST_HEAD = 32, 256


def fits(config: ModelConfig) -> bool:
    """Whether the kernels can hold a net of this shape."""
    wide = (config.hidden_size, config.intermediate_size, config.num_attention_heads * config.head_dim)
    whole = all(size % STREAM_MULTIPLE == 0 for size in wide)
    return whole and config.head_dim % HEAD_MULTIPLE == 0 and config.head_dim <= WIDEST_HEAD


@torch.inference_mode()
def write(model: PlainLM, path: Path, ids: Sequence[int] = ()) -> None:
    """The packed net in `path`, complete or not at all; OSError where it cannot be written.

    With the ids of a text, weights are rounded so that the products change least on it; without, each to nearest.
    """
    tensors = dict(_tensors(model, Walk(model, torch.tensor(ids)) if ids else None))
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        save_file(tensors, aside)
        fsync(aside)
        aside.replace(path)
    except SafetensorError as error:
        raise OSError(f"{path.name} cannot be written: {error}") from error
    finally:
        aside.unlink(missing_ok=True)


def _tensors(model: PlainLM, walk: Walk | None) -> Iterator[tuple[str, Tensor]]:
    yield "embedding", _half(model.embedding)
    if model.places is not None:
        yield "places", _half(model.places)
    if model.angles is not None:
        yield from zip(("cosine", "sine"), (table.contiguous() for table in model.angles), strict=True)
    for number, layer in enumerate(model.layers()):
        given = walk.through(layer) if walk else {}
        if "down" in given:
            given["down"] = spread(given["down"], spread_block(model.config.intermediate_size))
        up = interleaved(layer.up) if model.gated else layer.up
        for name, affine in (("qkv", layer.qkv), ("out", layer.out), ("up", up), ("down", for_spread(layer.down))):
            yield from _packed(f"{number}.{name}", affine, given.get(name))
        for name, norm in (("q_norm", layer.q_norm), ("k_norm", layer.k_norm)):
            if norm is not None:
                yield f"{number}.{name}", norm.float().clone()
    yield from _packed("head", model.head)


def _half(table: Tensor) -> Tensor:
    return table.to(torch.bfloat16).contiguous()


def interleaved(up: Affine) -> Affine:
    """Gates and ups [2 · inner, hidden] in turn, sixteen of each: one panel holds both of its sixteen outputs."""
    weight = up.weight.view(2, -1, LANES, up.weight.shape[1]).transpose(0, 1).flatten(0, 2)
    bias = None if up.bias is None else up.bias.view(2, -1, LANES).transpose(0, 1).flatten()
    return Affine(weight, bias)


def for_spread(down: Affine) -> Affine:
    """For inputs that the kernels have spread: spreading twice multiplies by the block."""
    block = spread_block(down.weight.shape[1])
    return Affine(spread(down.weight, block) / block, down.bias)


def spread_block(size: int) -> int:
    """The largest power of two that divides `size`, at most WIDEST_SPREAD."""
    return min(size & -size, WIDEST_SPREAD)


def spread(x: Tensor, block: int) -> Tensor:
    """Each block of the last axis by Sylvester's Hadamard matrix of ±1 (Ashkboos et al. 2024, QuaRot, §4)."""
    matrix = torch.ones(1, 1)
    while len(matrix) < block:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return (x.reshape(-1, block) @ matrix).view(x.shape)


def _packed(name: str, affine: Affine, given: Tensor | None = None) -> Iterator[tuple[str, Tensor]]:
    return ((f"{name}.{part}", tensor) for part, tensor in packed(affine, given))


def packed(affine: Affine, given: Tensor | None = None) -> Iterator[tuple[str, Tensor]]:
    """weight, scale, offset and, if there is one, bias; outputs filled up to whole panels with zeros."""
    values, scales = quantised(affine.weight, given)
    more = -len(values) % PANEL
    values = np.pad(values, ((0, more), (0, 0)))
    yield "weight", torch.from_numpy(panels(values))
    yield "scale", torch.from_numpy(np.pad(scales, (0, more), constant_values=1.0))
    yield "offset", torch.from_numpy(-128 * values.sum(1, dtype=np.int32))
    if affine.bias is not None:
        yield "bias", torch.nn.functional.pad(affine.bias.float(), (0, more)).contiguous()


def quantised(weight: Tensor, given: Tensor | None = None) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """[out, in] → bytes and float32 [out] scales: weight ≈ scale · byte, above all on the inputs `given`."""
    scale = weight.abs().amax(1, keepdim=True) / 127
    scale[scale == 0] = 1.0
    whole = (weight / scale).round() if given is None else compensated.rounded(weight, scale, given)
    return whole.to(torch.int8).numpy(), scale.flatten().float().numpy()


def panels(values: NDArray[np.int8]) -> NDArray[np.int8]:
    """[out, in] → [out/32, in/4, 2, 16, 4]: the order in which the kernels read."""
    rows, columns = values.shape
    parted = values.reshape(rows // PANEL, 2, LANES, columns // 4, 4)
    return np.ascontiguousarray(parted.transpose(0, 3, 1, 2, 4))
