"""Settings of the gateway: where the services are, how much it remembers and how long it waits for Redis."""

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from redis.asyncio.connection import parse_url

from gateway.sealing import keys_of
from services.runtime.settings import ServerSettings

MIB = 1024 * 1024

_REDIS = re.compile(r"(rediss?|unix)://.+")
_ADDRESS = re.compile(r"unix:.+|.+:\d{1,5}")


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _checked(text: str) -> str:
    for part in _listed(text):
        if not _ADDRESS.fullmatch(part):
            raise ValueError(f"{part!r} is neither host:port nor unix:path")
    return text


def _are_keys(secret: SecretStr) -> SecretStr:
    keys_of(secret.get_secret_value())
    return secret


def _opens(url: str) -> str:
    """Refused here, where it is named: the library's error repeats what stands where a port should."""
    try:
        good = not url or (_REDIS.fullmatch(url) and parse_url(url) is not None)
    except ValueError:
        good = False
    if not good:
        form = "no redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], rediss:// likewise, or unix://PATH"
        raise ValueError(f"{form}; in a password, / @ : are %2F %40 %3A")
    return url


Addresses = Annotated[str, AfterValidator(_checked)]
RedisUrl = Annotated[str, AfterValidator(_opens)]
Keys = Annotated[SecretStr, AfterValidator(_are_keys)]


class GatewaySettings(ServerSettings):
    """Read by `python -m gateway`. An address may be a comma list: replicas of one service.

    A name in it stands for every process that DNS knows by it.
    """

    port: int = Field(50050, ge=0, le=65535, description="port to listen on; 0 = any free one")
    max_message_mib: int = Field(64, ge=1, le=1024, description="largest message, both ways, MiB")
    tokenization_address: Addresses = Field("127.0.0.1:50051", description="tokenization replicas, comma list")
    vision_address: Addresses = Field("127.0.0.1:50052", description="vision replicas, comma list")
    sequence_address: Addresses = Field("127.0.0.1:50053", description="sequence replicas, comma list")
    generation_address: Addresses = Field("127.0.0.1:50054", description="generation replicas, comma list")
    start_wait_s: float = Field(1.0, ge=0, description="longest wait for the services before SERVING")
    models_refresh_s: float = Field(5.0, gt=0, description="how often the whole list of models is asked again")
    canary_percent: float = Field(
        0, ge=0, le=100, description="share of unary calls without a version that try the canary"
    )
    redis_url: RedisUrl = Field(
        "",
        description="redis:// or unix:// of the shared cache; empty = none",
    )
    cache_key: Keys | None = Field(
        None,
        description="32 bytes in base64 or hex that seal what goes to Redis; NEW,OLD rotates; no flag",
    )
    redis_connect_ms: int = Field(200, ge=1, description="longest wait for a Redis connection")
    redis_operation_ms: int = Field(50, ge=1, description="longest wait for a Redis answer")
    redis_breaker_faults: int = Field(5, ge=1, description="Redis faults in a row that open the breaker")
    redis_breaker_open_s: float = Field(1.0, gt=0, description="pause before an open breaker tries again")
    cache_ttl_s: float = Field(3600, gt=0, description="life of a cached answer; each varies by ten percent")
    cache_value_kib: int = Field(1024, ge=0, description="largest answer that is cached, KiB; 0 = none are")
    cache_memory_mib: int = Field(64, ge=0, description="cached answers kept in the process, MiB")

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
    def cache_value_bytes(self) -> int:
        return self.cache_value_kib * 1024

    @property
    def cache_memory_bytes(self) -> int:
        return self.cache_memory_mib * MIB
