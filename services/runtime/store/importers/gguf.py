"""A GGUF language model → float32 safetensors under Hugging Face names, tokenizer and manifest fields."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from services.runtime.errors import InvalidInput
from services.runtime.store.importers.gguf_families import FAMILIES, Family
from services.runtime.store.importers.gguf_file import GgufTensor, read
from services.runtime.store.importers.gguf_quants import SIZES, dequantise
from services.runtime.store.importers.inputs import Files, only

ROPE_FACTORS = "rope_freqs.weight"  # one divisor for each rotary frequency: a part of the shape, not a weight


def run(files: Files, directory: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Write model.safetensors and tokenizer.json into `directory`; manifest fields."""
    from services.runtime.text.build import from_gguf, gguf_spec

    content = read(only(files, ".gguf"), SIZES)
    family = _family(content.fields)
    tensors = {tensor.name: tensor for tensor in content.tensors}
    factors = tensors.pop(ROPE_FACTORS, None)
    config = _config(family, content.fields, tensors) | _rope(family, content.fields, factors)
    weights = {_name(family, name): _weights(family, tensor, config) for name, tensor in tensors.items()}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    from_gguf(content.fields).save(str(directory / "tokenizer.json"))
    return {
        "tasks": ["generation.generate", "tokenization.tokenize"],
        "runner": "engine",
        "architecture": family.architecture,
        "config": config,
        "tokenizer": gguf_spec(content.fields).model_dump(),
        "limits": {"max_tokens": config[family.context]},
    }


def _family(fields: Mapping[str, Any]) -> Family:
    architecture = str(fields.get("general.architecture"))
    if architecture not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise InvalidInput("file", f"GGUF architecture {architecture!r} is not convertible; known: {known}")
    return FAMILIES[architecture]


def _config(family: Family, fields: Mapping[str, Any], tensors: Mapping[str, GgufTensor]) -> dict[str, Any]:
    """Hugging Face's config.json keys out of the metadata; InvalidInput names a missing key."""
    area = fields["general.architecture"]
    needed = [f"{area}.{key}" for key in family.required.values()] + ["token_embd.weight"]
    missing = [key for key in needed if key not in fields and key not in tensors]
    if missing:
        raise InvalidInput("file", f"GGUF file lacks {', '.join(missing)}")
    keys = family.optional | family.required
    return {
        **family.fixed,
        **{name: _shortest(fields[f"{area}.{key}"]) for name, key in keys.items() if f"{area}.{key}" in fields},
        "vocab_size": tensors["token_embd.weight"].shape[0],
        "tie_word_embeddings": "output.weight" not in tensors,
        "bos_token_id": fields.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": fields.get("tokenizer.ggml.eos_token_id"),
    }


def _rope(family: Family, fields: Mapping[str, Any], factors: GgufTensor | None) -> dict[str, Any]:
    """How the rotary frequencies are scaled, under Hugging Face's keys; empty if they are not."""
    area = f"{fields['general.architecture']}.rope.scaling."
    kind = fields.get(area + "type", "none")
    if factors is not None:
        divisors = [_shortest(float(factor)) for factor in dequantise(factors).ravel()]
        return {"rope_scaling": {"rope_type": "factors", "factors": divisors}}
    if kind == "none":
        return {}
    names = {"factor": "factor", "original_max_position_embeddings": "original_context_length"}
    given = {name: _shortest(fields[area + key]) for name, key in names.items() if area + key in fields}
    return {"rope_scaling": {"rope_type": kind, **given}}


def _shortest(value: Any) -> Any:
    """A float32 as the decimal it was written as: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _name(family: Family, gguf_name: str) -> str:
    *parts, last = gguf_name.split(".")
    number = parts.pop(1) if len(parts) == 3 else ""
    place = family.names.get(".".join(parts))
    if place is None or last not in ("weight", "bias"):
        raise InvalidInput("file", f"tensor {gguf_name} has no place in a {family.architecture}")
    return f"{place.format(number)}.{last}"


def _weights(family: Family, tensor: GgufTensor, config: Mapping[str, Any]) -> NDArray[np.float32]:
    part = tensor.name.split(".")[-2]
    return family.reorder(part, dequantise(tensor), config)
