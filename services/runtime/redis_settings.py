"""Settings of a server that keeps something in Redis: where it is, how long to wait, what seals the values."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from services.runtime.redis.place import place_of
from services.runtime.sealing import keys_of
from services.runtime.settings import ServerSettings


def _are_keys(secret: SecretStr) -> SecretStr:
    keys_of(secret.get_secret_value())
    return secret


def _opens(url: str) -> str:
    """Refused here, where it is named, in words that never repeat the URL."""
    if url:
        try:
            place_of(url)
        except OSError as error:
            raise ValueError(
                f"its certificates cannot be read: {error.strerror or type(error).__name__}"
            ) from None
    return url


RedisUrl = Annotated[str, AfterValidator(_opens)]
Keys = Annotated[SecretStr, AfterValidator(_are_keys)]


class RedisSettings(ServerSettings):
    """What such a server needs on top of every server."""

    redis_url: RedisUrl = Field(
        "",
        repr=False,
        description="URL of the Redis of the shared cache; empty = none",
    )
    cache_key: Keys | None = Field(
        None,
        description="32 bytes in base64 or hex that seal what goes to Redis; NEW,OLD rotates; no flag",
    )
    redis_connect_ms: int = Field(200, ge=1, description="longest wait for a Redis connection")
    redis_operation_ms: int = Field(50, ge=1, description="longest wait for a Redis answer")
    redis_breaker_faults: int = Field(5, ge=1, description="Redis faults in a row that open the breaker")
    redis_breaker_open_s: float = Field(1.0, gt=0, description="pause before an open breaker tries again")
