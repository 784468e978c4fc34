"""Fine-tuning whose result is the adapter alone, as a version of its own. Knows no corpus and no recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from services.generation.models import low_rank, registry
from services.runtime.store.manifest import Manifest
from training.language import LanguageTraining
from training.lora import Lora


@dataclass
class AdapterTraining(LanguageTraining):
    """`base` is what the adapter is to be served on: no other weights, its shapes being those of every layer."""

    base: Manifest = field(kw_only=True)

    def fields(self) -> dict[str, Any]:
        told = super().fields()
        return {
            "tasks": ["generation.adapter"],
            "config": self._config(),
            "runner": "engine",
            "licence": told["licence"],
            "provenance": told["provenance"],
        }

    def write(self, model: nn.Module, directory: Path) -> None:
        """The pairs under PEFT's names."""
        pairs = {name: (pair.down.detach().cpu(), pair.up.detach().cpu()) for name, pair in _pairs(model).items()}
        low_rank.save(directory / low_rank.FILE, pairs, registry.prefix(self.base.architecture))

    def _config(self) -> dict[str, Any]:
        pairs = _pairs(self.net)
        rank, scale = next((len(pair.down), pair.scale) for pair in pairs.values())
        return {
            "base": self.base.name,
            "base_weights": self.base.files[registry.WEIGHTS_FILE],
            "r": rank,
            "lora_alpha": scale * rank,
            "target_modules": sorted({name.rpartition(".")[2] for name in pairs}),
        }


def _pairs(model: nn.Module) -> Mapping[str, Lora]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Lora)}
