"""Reads the GGUF container: metadata and where each tensor's bytes lie. Knows no architecture.

Layout: the GGUF specification, versions 2 and 3, little-endian (ggml project, docs/gguf.md).
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.runtime.errors import InvalidInput

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
# The tensor types by number, as ggml.h names them; the missing numbers were taken back.
TYPE_NAMES = {
    **dict(enumerate(("F32", "F16", "Q4_0", "Q4_1"))),
    **dict(enumerate(("Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K"), 6)),
    **dict(enumerate(("IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS"), 16)),
    **dict(enumerate(("I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16"), 24)),
    **{34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0"},
}


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor: `shape` is row-major (the file's order reversed), `data` its raw bytes."""

    name: str
    kind: int
    shape: tuple[int, ...]
    data: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class GgufFile:
    """The whole file; tensor bytes stay memory-mapped."""

    fields: dict[str, Any]
    tensors: list[GgufTensor]


class Cursor:
    """Reads values one after the other; InvalidInput where the file ends too soon."""

    def __init__(self, content: memoryview) -> None:
        self.content = content
        self.at = 0

    def take(self, size: int) -> memoryview:
        """The next `size` bytes."""
        if size > len(self.content) - self.at:
            raise InvalidInput("file", f"GGUF file ends at byte {len(self.content)}, inside its header")
        self.at += size
        return self.content[self.at - size : self.at]

    def scalar(self, code: str) -> Any:
        """One little-endian value of a struct code."""
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def string(self) -> str:
        """A length-prefixed UTF-8 string; broken bytes survive as surrogates."""
        return bytes(self.take(self.scalar("Q"))).decode("utf-8", "surrogateescape")

    def value(self, kind: int) -> Any:
        """A metadata value of the given type number."""
        if kind in SCALARS:
            return self.scalar(SCALARS[kind])
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            return self.array()
        raise InvalidInput("file", f"GGUF metadata type {kind} is unknown")

    def array(self) -> list[Any]:
        """A typed array; numbers are read at once."""
        kind, count = self.scalar("I"), self.scalar("Q")
        if kind not in SCALARS:
            return [self.value(kind) for _ in range(count)]
        layout = f"<{count}{SCALARS[kind]}"
        return list(struct.unpack(layout, self.take(struct.calcsize(layout))))


def read(path: Path, sizes: dict[int, tuple[int, int]]) -> GgufFile:
    """Parse `path`. `sizes` maps a tensor type to (values, bytes) of a block; others raise InvalidInput."""
    content = np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.empty(0, np.uint8)
    cursor = Cursor(content.data)
    if bytes(cursor.take(4)) != b"GGUF" or cursor.scalar("I") not in (2, 3):
        raise InvalidInput("file", f"{path.name} is not a little-endian GGUF file of version 2 or 3")
    tensor_count, field_count = cursor.scalar("Q"), cursor.scalar("Q")
    fields = {cursor.string(): cursor.value(cursor.scalar("I")) for _ in range(field_count)}
    heads = [_tensor_head(cursor) for _ in range(tensor_count)]
    alignment = fields.get("general.alignment", 32)
    start = (cursor.at + alignment - 1) // alignment * alignment
    return GgufFile(fields, [_tensor(content, start, *head, sizes) for head in heads])


def _tensor_head(cursor: Cursor) -> tuple[str, tuple[int, ...], int, int]:
    name, axes = cursor.string(), cursor.scalar("I")
    shape = tuple(cursor.scalar("Q") for _ in range(axes))[::-1]
    return name, shape, cursor.scalar("I"), cursor.scalar("Q")


def _tensor(
    content: NDArray[np.uint8],
    start: int,
    name: str,
    shape: tuple[int, ...],
    kind: int,
    offset: int,
    sizes: dict[int, tuple[int, int]],
) -> GgufTensor:
    if kind not in sizes:
        readable = ", ".join(TYPE_NAMES[known] for known in sorted(sizes))
        raise InvalidInput(
            "file", f"tensor {name} has GGUF type {kind} ({TYPE_NAMES.get(kind, 'unknown')}); readable: {readable}"
        )
    values, size = sizes[kind]
    count = int(np.prod(shape, dtype=np.int64))
    data = content[start + offset : start + offset + count // values * size]
    if count % values or data.size != count // values * size:
        raise InvalidInput("file", f"tensor {name} of shape {shape} reaches past the end of the file")
    return GgufTensor(name, kind, shape, data)
