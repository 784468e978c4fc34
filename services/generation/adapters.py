"""Which model and which adapter a request means, for the length of a call. Knows leases, not what they compute.

Adapters are entries of the store like models, and of the host: versions, labels, hot loading and unloading, their
digests in the stream of changes. Their weights come into memory when they are first asked for.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import sqrt
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from maas.generation.v1 import generation_service_pb2 as service_pb
from services.generation.convert import GenerateRequest
from services.generation.engine.adapter import Adapter
from services.generation.model import GenerationModel
from services.generation.models import low_rank, registry
from services.generation.models.causal_lm import CausalLM
from services.generation.shelf import Shelf
from services.runtime.errors import InvalidInput, ModelNotFound, PreconditionFailed
from services.runtime.host import ModelHost
from services.runtime.store.manifest import Manifest

TASK, ADAPTER_TASK = "generation.generate", "generation.adapter"


class AdapterConfig(BaseModel):
    """What an adapter's manifest says of it, in PEFT's words. base: the model's name in the store; base_weights:
    sha256 of the weights it was trained on, empty = not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    base: str
    r: int = Field(ge=1)
    lora_alpha: float = Field(gt=0)
    target_modules: list[str] | str = []
    use_rslora: bool = False
    base_weights: str = ""

    @property
    def scale(self) -> float:
        """Of B·A: α/r, or α/√r where ranks are stabilised (Kalajdzievski 2023, arXiv:2312.03732)."""
        return self.lora_alpha / (sqrt(self.r) if self.use_rslora else self.r)


@dataclass(frozen=True, slots=True)
class StoredAdapter:
    """One version of an adapter, as the host keeps it: no weights."""

    manifest: Manifest
    directory: Path
    config: AdapterConfig

    @classmethod
    def read(cls, manifest: Manifest, directory: Path) -> "StoredAdapter":
        """PreconditionFailed where the manifest does not say what an adapter's must."""
        try:
            return cls(manifest, directory, AdapterConfig.model_validate(manifest.config))
        except ValidationError as error:
            first = error.errors()[0]
            raise PreconditionFailed(f"config.{'.'.join(map(str, first['loc']))}: {first['msg']}") from error

    async def warm_up(self) -> None:
        """There is nothing to compute without a base."""

    async def close(self) -> None:
        """The models' shelves drop what they hold of it in their own time."""


Hosted = GenerationModel | StoredAdapter


class Models:
    """The models of a host, each for a call as the request wants it."""

    def __init__(self, host: ModelHost[Hosted]) -> None:
        self._host = host

    @asynccontextmanager
    async def lease(self, request: GenerateRequest | service_pb.ScoreRequest) -> AsyncIterator[GenerationModel]:
        """The model that the request means, with the adapter that it asks for.

        Raises as `ModelHost.lease`; ModelNotFound names the adapters of the model, PreconditionFailed for one of
        another base, Overloaded where no more fit.
        """
        named = "" if isinstance(request, service_pb.ScoreRequest) else request.adapter
        with self._host.lease(request.model, request.version, TASK) as model:
            assert isinstance(model, GenerationModel)
            if not named or model.shelf is None:
                yield model
                return
            async with self._adapter(named, model, model.shelf) as adapter:
                yield replace(model, adapter=adapter)

    @asynccontextmanager
    async def _adapter(self, named: str, model: GenerationModel, shelf: Shelf) -> AsyncIterator[Adapter]:
        name, _, version = named.partition("@")
        stored = await self._stored(name, version, model)
        check_base(stored, model)
        renames = registry.renames(model.manifest.architecture)
        async with shelf.hold(stored.manifest.digest, partial(self._read, stored, renames)) as adapter:
            yield adapter

    async def _stored(self, name: str, version: str, model: GenerationModel) -> StoredAdapter:
        """The version that answers, or of an adapter that does any other by its number: these cost nothing."""
        try:
            with self._host.lease(name, version, "") as found:
                stored = found
        except ModelNotFound:
            if not self._host.versions(name):
                raise ModelNotFound(f"adapter of {model.manifest.name}", name, self._known(model)) from None
            if not version.isdecimal():
                raise
            stored = await asyncio.to_thread(self._unhosted, name, version)
        if not isinstance(stored, StoredAdapter):
            known = ", ".join(self._known(model)) or "none"
            raise InvalidInput("adapter", f"{name} is a model; adapters of {model.manifest.name}: {known}")
        return stored

    def _unhosted(self, name: str, version: str) -> StoredAdapter:
        manifest = self._host.store.resolve(name, version)
        return StoredAdapter.read(manifest, self._host.store.directory(manifest))

    def _known(self, model: GenerationModel) -> list[str]:
        """The adapters of this model that answer."""
        names = []
        for name in self._host.loaded():
            with self._host.lease(name, "", "") as stored:
                if isinstance(stored, StoredAdapter) and stored.config.base == model.manifest.name:
                    names.append(name)
        return names

    def _read(self, stored: StoredAdapter, renames: Mapping[str, str], net: CausalLM) -> low_rank.Changes:
        self._host.store.verify(stored.manifest)
        return low_rank.load(stored.directory / low_rank.FILE, net, renames, stored.config.scale)


def check_base(stored: StoredAdapter, model: GenerationModel) -> None:
    """PreconditionFailed unless the adapter was made for this model."""
    config, base = stored.config, model.manifest
    name = stored.manifest.name
    if config.base != base.name:
        raise PreconditionFailed(
            f"adapter {name!r} is for model {config.base!r}, not for {base.name!r}", reason="ADAPTER_MISMATCH"
        )
    if config.base_weights not in ("", base.files.get(registry.WEIGHTS_FILE)):
        raise PreconditionFailed(
            f"adapter {name!r} was trained on other weights of {base.name!r} than version {base.version} has; "
            "ask for the version it was trained on",
            reason="ADAPTER_MISMATCH",
        )
