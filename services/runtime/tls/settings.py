"""Settings of TLS: what a process shows, whom it trusts, and that nothing is served in clear by mistake."""

import ipaddress
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings

from services.runtime.errors import InvalidInput
from services.runtime.followed import Followed
from services.runtime.tls import material
from services.runtime.tls.material import Material


class TlsSettings(BaseSettings):
    """Files are read again when they change; a pair that does not agree changes nothing."""

    tls_certificate: Path | None = Field(None, description="PEM chain of this process; with it, its ports are TLS")
    tls_key: Path | None = Field(None, description="PEM key of that certificate")
    tls_authority: Path | None = Field(None, description="PEM authority by which others are known")
    tls_clients: bool = Field(False, description="callers must show a certificate of the authority (mutual TLS)")
    tls_metrics_clients: bool = Field(
        False, description="who asks for metrics must show a certificate of the authority too"
    )
    tls_server_name: str = Field(
        "", description="name that certificates of called servers must have; unset = as addressed"
    )
    plaintext: bool = Field(False, description="serve an address that is not loopback without TLS, as in a mesh")

    @property
    def tls(self) -> bool:
        """Whether this process' ports speak TLS."""
        return self.tls_certificate is not None

    @property
    def tls_paths(self) -> tuple[Path, ...]:
        named = (self.tls_certificate, self.tls_key, self.tls_authority)
        return tuple(path for path in named if path is not None)

    def followed_tls(self) -> Followed[Material] | None:
        """What the files say, now and later; None without any."""
        paths = self.tls_paths
        return Followed(paths[0], lambda _: self.read_tls(), paths[1:]) if paths else None

    def read_tls(self) -> Material:
        """Raises InvalidInput or OSError."""
        return material.read(self.tls_certificate, self.tls_key, self.tls_authority)

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("set both MAAS_TLS_CERTIFICATE and MAAS_TLS_KEY, or neither")
        if (self.tls_clients or self.tls_metrics_clients) and not (self.tls and self.tls_authority):
            name = "MAAS_TLS_CLIENTS" if self.tls_clients else "MAAS_TLS_METRICS_CLIENTS"
            raise ValueError(f"{name} needs MAAS_TLS_CERTIFICATE, MAAS_TLS_KEY and MAAS_TLS_AUTHORITY")
        try:
            self.read_tls()
        except (InvalidInput, OSError) as error:
            raise ValueError(str(error)) from None
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    if host == "localhost" or host.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
