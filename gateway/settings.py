"""Settings of the gateway: where the services are, how much it remembers and how long it waits for Redis."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator

from gateway.overload.bounds import Bounds
from gateway.resolve import XDS
from gateway.steps.stored import FILE, load
from gateway.tenancy.settings import TenancySettings
from gateway.xds import bootstrap
from services.runtime.errors import InvalidInput

MIB = 1024 * 1024

_ADDRESS = re.compile(r"unix:.+|xds:///.+|.+:\d{1,5}")


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _checked(text: str) -> str:
    for part in _listed(text):
        if not _ADDRESS.fullmatch(part):
            raise ValueError(f"{part!r} is neither host:port, unix:path nor xds:///cluster")
    return text


def _readable(path: str) -> str:
    """Read where it is named, so that a bad file stops the start and says why."""
    try:
        load(Path(path) if path else FILE)
    except (InvalidInput, OSError) as error:
        raise ValueError(str(error)) from None
    return path


def _bootstrap(path: str) -> str:
    try:
        _ = bootstrap.load(Path(path)) if path else None
    except OSError as error:
        raise ValueError(str(error)) from None
    return path


BootstrapPath = Annotated[str, AfterValidator(_bootstrap)]
PipelinesPath = Annotated[str, AfterValidator(_readable)]
Addresses = Annotated[str, AfterValidator(_checked)]


class GatewaySettings(TenancySettings):
    """Read by `python -m gateway`. An address may be a comma list: replicas of one service.

    A name in it stands for every process that DNS knows by it, xds:///NAME for those of a control plane's cluster.
    """

    takes_envelopes: ClassVar[bool] = False

    port: int = Field(50050, ge=0, le=65535, description="port to listen on; 0 = any free one")
    max_message_mib: int = Field(64, ge=1, le=1024, description="largest message, both ways, MiB")
    tokenization_address: Addresses = Field("127.0.0.1:50051", description="tokenization replicas, comma list")
    vision_address: Addresses = Field("127.0.0.1:50052", description="vision replicas, comma list")
    sequence_address: Addresses = Field("127.0.0.1:50053", description="sequence replicas, comma list")
    generation_address: Addresses = Field("127.0.0.1:50054", description="generation replicas, comma list")
    xds_bootstrap: BootstrapPath = Field(
        "", description="gRPC's bootstrap file (JSON) for addresses xds:///cluster"
    )
    coalesce: bool = Field(
        True,
        description="short calls that wait travel to a service together; off behind a mesh",
    )
    start_wait_s: float = Field(1.0, ge=0, description="longest wait for the services before SERVING")
    models_refresh_s: float = Field(5.0, gt=0, description="how often the whole list of models is asked again")
    canary_percent: float = Field(
        0, ge=0, le=100, description="share of unary calls without a version that try the canary"
    )
    split_items: int = Field(
        32, ge=0, description="a batch of more is shared out among the replicas of its service; 0 = never"
    )
    shed: bool = Field(
        True, description="bound what a service has in flight, refuse what it cannot answer in time"
    )
    hedge: bool = Field(True, description="ask a second replica where the first takes longer than its p95")
    limit_floor: int = Field(4, ge=1, description="short calls in flight to a service that are never too many")
    limit_ceiling: int = Field(
        512, ge=1, description="most short calls in flight to a service, and most that wait"
    )
    long_limit: int = Field(256, ge=1, description="streams, generations and explanations at once to a service")
    queue_wait_s: float = Field(
        5.0, ge=0, description="longest expected wait for a place; who would wait more is refused"
    )
    pipelines: PipelinesPath = Field("", description="TOML file of named pipelines; unset = those of the suite")
    cache_ttl_s: float = Field(3600, gt=0, description="life of a cached answer; each varies by ten percent")
    cache_value_kib: int = Field(1024, ge=0, description="largest answer that is cached, KiB; 0 = none are")
    cache_memory_mib: int = Field(64, ge=0, description="cached answers kept in the process, MiB")

    @model_validator(mode="after")
    def _clusters_can_be_asked_for(self) -> Self:
        if self.clusters and not self.xds_bootstrap:
            raise ValueError(f"{XDS}{self.clusters[0]} needs MAAS_XDS_BOOTSTRAP, a file that says whom to ask")
        return self

    @model_validator(mode="after")
    def _services_are_told(self) -> Self:
        if self.tells_callers_apart and self.mesh_key is None:
            # Else all tenants were one to the services: they would share sessions and prefix caches.
            raise ValueError("where callers are told apart, MAAS_MESH_KEY must be set, here and at the services")
        return self

    backend_tls: bool | None = Field(None, description="call services by TLS; unset = if this port speaks it")

    @property
    def calls_by_tls(self) -> bool:
        return self.tls if self.backend_tls is None else self.backend_tls

    @property
    def addresses(self) -> Mapping[str, tuple[str, ...]]:
        """Service → addresses of its replicas."""
        return {
            "tokenization": _listed(self.tokenization_address),
            "vision": _listed(self.vision_address),
            "sequence": _listed(self.sequence_address),
            "generation": _listed(self.generation_address),
        }

    @property
    def bounds(self) -> Bounds:
        """Of each service alike."""
        of_calls = (self.limit_floor, self.limit_ceiling, self.long_limit)
        return Bounds(self.shed, self.hedge, *of_calls, self.queue_wait_s)

    @property
    def clusters(self) -> tuple[str, ...]:
        """Names of the clusters whose processes a control plane knows."""
        every = (address for addresses in self.addresses.values() for address in addresses)
        return tuple(address.removeprefix(XDS) for address in every if address.startswith(XDS))

    @property
    def pipelines_file(self) -> Path:
        return Path(self.pipelines) if self.pipelines else FILE

    @property
    def cache_value_bytes(self) -> int:
        return self.cache_value_kib * 1024

    @property
    def cache_memory_bytes(self) -> int:
        return self.cache_memory_mib * MIB
