"""Where calls go and what goes with each: target, channel arguments, TLS, credentials, deadline. Opens nothing."""

import ipaddress
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypedDict

import grpc

from maas_client.call import How
from maas_client.errors import REQUEST_ID

MIB = 1024 * 1024
ADDRESS, TIMEOUT_S = "localhost:50050", 60.0
File = str | PathLike[str]
# Said once, or asked anew for each call, as tokens end.
Credential = str | Callable[[], str]
_SCHEME = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract|vsock|xds):")


@dataclass(frozen=True, slots=True)
class Tls:
    """By what the server is known, and what is shown to it: PEM files.

    `authority` unset = the authorities that gRPC brings. `certificate` and `key`: one's own, where asked for.
    `server_name`: whom its certificate must name, if not the address.
    """

    authority: File | None = None
    certificate: File | None = None
    key: File | None = None
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """ValueError where only one of certificate and key is given; OSError for a file that cannot be read."""
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key are given together, or not at all")
        authority, key, certificate = (
            Path(file).read_bytes() if file is not None else None
            for file in (self.authority, self.key, self.certificate)
        )
        return grpc.ssl_channel_credentials(authority, key, certificate)


class Connecting(TypedDict, total=False):
    """How a client is made.

    `tls`: unset = in clear. `credential`: an API key or a token, or what tells the token of now. `timeout_s`: each
    call's unless it says otherwise (60). `retry`: up to three tries of what was UNAVAILABLE (true). `metadata`:
    goes with every call. `plaintext`: a credential may go in clear beyond this machine: something else encrypts.
    """

    tls: Tls | None
    credential: Credential | None
    timeout_s: float
    retry: bool
    metadata: Mapping[str, str]
    plaintext: bool


class Manner:
    """What goes with every call of a client."""

    def __init__(self, address: str, options: Connecting) -> None:
        self.target, self.tls = target_of(address), options.get("tls")
        self.timeout_s = options.get("timeout_s", TIMEOUT_S)
        self.arguments = channel_arguments(options.get("retry", True), self.tls)
        self._credential = options.get("credential")
        self._metadata = tuple(options.get("metadata", {}).items())
        if (
            self._credential
            and self.tls is None
            and not options.get("plaintext", False)
            and not _near(self.target)
        ):
            raise ValueError(
                f"a credential would go to {address} in clear: give tls=Tls(…), or plaintext=True where something "
                "else encrypts"
            )

    def metadata(self, how: How) -> tuple[tuple[tuple[str, str], ...], str]:
        """Of one call, and its request id."""
        request_id = how.get("request_id") or secrets.token_hex(16)
        given = {"cache-control": how.get("cache_control", ""), "x-maas-priority": how.get("urgency", "")}
        if self._credential is not None:
            told = self._credential if isinstance(self._credential, str) else self._credential()
            given["authorization"] = f"Bearer {told}"
        said = ((key, value) for key, value in given.items() if value)
        return ((REQUEST_ID, request_id), *said, *self._metadata), request_id

    def timeout(self, how: How) -> float:
        """Seconds."""
        return how.get("timeout_s", self.timeout_s)


def target_of(address: str) -> str:
    """`host:port` → `dns:///host:port`: every address behind a name is used. Other schemes of gRPC stay."""
    return address if _SCHEME.match(address) else f"dns:///{address}"


def channel_arguments(retry: bool, tls: Tls | None) -> tuple[tuple[str, Any], ...]:
    """gRPC's own retries; pings that find a dead connection; names looked up, replicas taken in turn."""
    table: dict[str, Any] = {
        "grpc.max_receive_message_length": 64 * MIB,
        "grpc.max_send_message_length": 64 * MIB,
        "grpc.keepalive_time_ms": 30_000,
        "grpc.keepalive_timeout_ms": 10_000,
        "grpc.http2.ping_timeout_ms": 10_000,
        "grpc.http2.max_pings_without_data": 0,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.use_local_subchannel_pool": 1,
        "grpc.initial_reconnect_backoff_ms": 100,
        "grpc.min_reconnect_backoff_ms": 2_000,
        "grpc.max_reconnect_backoff_ms": 2_000,
        "grpc.enable_retries": int(retry),
        "grpc.service_config": json.dumps(service_config(retry)),
    }
    if tls is not None and tls.server_name:
        table["grpc.ssl_target_name_override"] = tls.server_name
    return tuple(table.items())


def service_config(retry: bool) -> dict[str, Any]:
    """UNAVAILABLE alone is sent again, and nothing of which an answer has begun: so gRFC A6 has it."""
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if retry:
        policy = {
            "maxAttempts": 3,
            "initialBackoff": "0.05s",
            "maxBackoff": "1s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        config["methodConfig"] = [{"name": [{}], "retryPolicy": policy}]
        config["retryThrottling"] = {"maxTokens": 100, "tokenRatio": 0.1}
    return config


def _near(target: str) -> bool:
    """Whether the target is on this machine, as far as its text tells."""
    if target.startswith("unix"):
        return True
    hosts = [one.rpartition(":")[0].strip("[]") for one in target.partition(":")[2].lstrip("/").split(",")]
    return all(host == "localhost" or _loopback(host) for host in hosts)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
