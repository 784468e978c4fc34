"""Every GGUF tensor type that is read, against the gguf package's own dequantiser."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import quants

from services.runtime.errors import InvalidInput
from services.runtime.store.importers import gguf_file, gguf_quants
from tests.unit.runtime.store.gguf_made import SCALES, Q, random_data

ORACLE = [kind for kind in map(Q, gguf_quants.TYPES) if kind is not Q.Q8_K]  # the package cannot read Q8_K


def one_tensor(directory: Path, data: np.ndarray, kind: Q) -> Path:
    path = directory / "one.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("blk.0.ffn_up.weight", data, raw_dtype=kind)
    writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", ORACLE, ids=lambda kind: kind.name)
@pytest.mark.parametrize("seed", range(3))
def test_dequantisation_equals_the_reference_bit_for_bit(tmp_path: Path, kind: Q, seed: int) -> None:
    data = random_data(kind, (12, 512), 0.5, seed)
    tensor = gguf_file.read(one_tensor(tmp_path, data, kind), gguf_quants.SIZES).tensors[0]
    found = gguf_quants.dequantise(tensor)
    assert found.shape == (12, 512) and found.dtype == np.float32 and len(np.unique(found)) > 15
    np.testing.assert_array_equal(found, quants.dequantize(data, kind))


def test_q8_k_is_scale_times_value() -> None:
    draw = np.random.default_rng(0)
    scale, values = np.float32(0.37), draw.integers(-128, 128, 256, dtype=np.int8)
    block = np.frombuffer(scale.tobytes() + values.tobytes() + bytes(32), np.uint8)
    tensor = gguf_file.GgufTensor("t", Q.Q8_K, (256,), block)
    np.testing.assert_array_equal(gguf_quants.dequantise(tensor), scale * values.astype(np.float32))


def test_types_are_named_and_sized_as_the_package_has_them() -> None:
    assert {int(kind): kind.name for kind in Q} == gguf_file.TYPE_NAMES
    assert {kind: gguf.GGML_QUANT_SIZES[Q(kind)] for kind in gguf_quants.TYPES} == gguf_quants.SIZES
    assert set(SCALES) < set(gguf_quants.TYPES)


@pytest.mark.parametrize("kind", sorted(set(Q) - set(gguf_quants.TYPES)), ids=lambda kind: kind.name)
def test_an_unreadable_type_is_named_with_its_tensor_and_what_is_readable(tmp_path: Path, kind: Q) -> None:
    values, size = gguf.GGML_QUANT_SIZES[kind]
    path = one_tensor(tmp_path, np.zeros((4, size), np.uint8), kind)
    with pytest.raises(InvalidInput) as error:
        gguf_file.read(path, gguf_quants.SIZES)
    for said in ("blk.0.ffn_up.weight", f"type {int(kind)} ({kind.name})", "Q4_K, Q5_K, Q6_K"):
        assert said in str(error.value)
