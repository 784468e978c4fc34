"""Settings of what a process tells of itself to a collector (OTLP). Without an address nothing is told."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings


def _is_address(text: str) -> str:
    scheme, found, rest = text.rpartition("://")
    if text and (not rest.rpartition(":")[2].isdigit() or (found and scheme not in ("http", "https"))):
        raise ValueError("give http://HOST:PORT or https://HOST:PORT, where OTLP is spoken over gRPC")
    return text


def headers_of(text: str) -> list[tuple[str, str]]:
    """`key=value,key=value` → metadata. Raises ValueError."""
    pairs = [one.partition("=") for one in text.split(",") if one]
    if not all(key.strip() and found for key, found, _ in pairs):
        raise ValueError("give key=value,key=value")
    return [(key.strip().lower(), value.strip()) for key, _, value in pairs]


def _are_headers(secret: SecretStr) -> SecretStr:
    headers_of(secret.get_secret_value())
    return secret


Address = Annotated[str, AfterValidator(_is_address)]
Headers = Annotated[SecretStr, AfterValidator(_are_headers)]


class TraceSettings(BaseSettings):
    """Spans and, if wanted, metrics by OTLP over gRPC."""

    trace_endpoint: Address = Field(
        "",
        description="OTLP collector (gRPC) of traces: http://HOST:4317 or https://…; unset = none are made",
    )
    trace_ratio: float = Field(
        0.01, ge=0, le=1, description="share of calls that are traced where the caller says nothing of it"
    )
    trace_calls_per_s: float = Field(
        100, gt=0, description="most calls traced in a second, those whose callers ask for it included"
    )
    trace_queue: int = Field(
        4096, ge=64, le=1 << 20, description="spans that wait for the collector; more are dropped and counted"
    )
    trace_headers: Headers | None = Field(
        None, description="key=value,key=value sent to collectors along with each message; no flag"
    )
    trace_authority: Path | None = Field(
        None, description="PEM authority of collectors on https; unset = the system's"
    )
    metrics_endpoint: Address = Field(
        "", description="OTLP collector (gRPC) that metrics are sent to as well; unset = none"
    )
    metrics_every_s: float = Field(15, ge=1, description="how often they are sent")

    @property
    def service_name(self) -> str:
        """Of the process, in traces."""
        return f"maas-{type(self).__name__.removesuffix('Settings').lower()}"
