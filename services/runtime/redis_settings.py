"""Settings of a server that keeps something in Redis: where it is, how long to wait, what seals the values."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from redis.asyncio.connection import parse_url

from services.runtime.sealing import keys_of
from services.runtime.settings import ServerSettings

_REDIS = re.compile(r"(rediss?|unix)://.+")


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


RedisUrl = Annotated[str, AfterValidator(_opens)]
Keys = Annotated[SecretStr, AfterValidator(_are_keys)]


class RedisSettings(ServerSettings):
    """What such a server needs on top of every server."""

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
