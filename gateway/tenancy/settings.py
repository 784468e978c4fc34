"""Settings of tenancy: quotas, prices, and how long it is known who used what."""

from typing import Annotated

from pydantic import Field

from gateway.tenancy.plans import parse
from services.runtime.identity.settings import readable
from services.runtime.redis_settings import RedisSettings

QuotasPath = Annotated[str, readable(parse)]


class TenancySettings(RedisSettings):
    """What a gateway counts, and against what."""

    quotas_file: QuotasPath = Field("", description="TOML file of quotas by tenant, and of prices")
    quota_local_share: float = Field(
        0.5, gt=0, le=1, description="share of every quota that a process grants by itself while Redis is away"
    )
    usage: bool = Field(True, description="count requests, tokens and compute time by tenant and model")
    usage_days: int = Field(90, ge=1, le=3660, description="days that usage is kept")
    usage_tenants: int = Field(100, ge=0, description="tenants with metrics of their own; more are `other`")
