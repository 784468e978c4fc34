"""The one table of channel arguments. Unknown keys are refused: core ignores misspelt ones silently."""

import json
from collections.abc import Mapping
from typing import Literal, NamedTuple

import grpc
from grpc import aio

ChannelOptions = tuple[tuple[str, int | str], ...]

MIB = 1024 * 1024
MOST_CALLS = 4096
HANDSHAKE = "grpc.server_handshake_timeout_ms"


class Keepalive(NamedTuple):
    """A connection that was quiet for `every_s` is pinged; without an answer after `within_s` it is dead.

    Its calls end UNAVAILABLE. Core's own threads answer, however busy the interpreter is.
    """

    every_s: float
    within_s: float


USUAL = Keepalive(30, 10)
# Where another replica can take the calls of one that is stopped or cut off.
QUICK = Keepalive(1, 2)

KNOWN = frozenset(
    {
        "grpc.max_receive_message_length",
        "grpc.max_send_message_length",
        "grpc.max_metadata_size",
        "grpc.keepalive_time_ms",
        "grpc.keepalive_timeout_ms",
        "grpc.keepalive_permit_without_calls",
        "grpc.http2.max_pings_without_data",
        "grpc.http2.ping_timeout_ms",
        "grpc.http2.min_ping_interval_without_data_ms",
        "grpc.http2.max_ping_strikes",
        "grpc.max_connection_age_ms",
        "grpc.max_connection_age_grace_ms",
        "grpc.max_concurrent_streams",
        "grpc.max_allowed_incoming_connections",
        HANDSHAKE,
        "grpc.so_reuseport",
        "grpc.service_config",
        "grpc.ssl_target_name_override",
        "grpc.enable_retries",
        "grpc.lb_policy_name",
        "grpc.initial_reconnect_backoff_ms",
        "grpc.min_reconnect_backoff_ms",
        "grpc.max_reconnect_backoff_ms",
        "grpc.dns_min_time_between_resolutions_ms",
        "grpc.use_local_subchannel_pool",
        "grpc.enable_channelz",
    }
)


def options(table: Mapping[str, int | str]) -> ChannelOptions:
    """The table as gRPC takes it; ValueError names a key that core would ignore."""
    unknown = sorted(set(table) - KNOWN)
    if unknown:
        raise ValueError(f"unknown channel arguments: {', '.join(unknown)}")
    return tuple(table.items())


def _sizes(max_message_bytes: int) -> dict[str, int | str]:
    return {
        "grpc.max_receive_message_length": max_message_bytes,
        "grpc.max_send_message_length": max_message_bytes,
        "grpc.enable_channelz": 1,
    }


def _pings(keepalive: Keepalive) -> dict[str, int | str]:
    within_ms = round(keepalive.within_s * 1000)
    return {
        "grpc.keepalive_time_ms": round(keepalive.every_s * 1000),
        "grpc.keepalive_timeout_ms": within_ms,
        # Core waits for this one, a minute if unset, whatever the one above says.
        "grpc.http2.ping_timeout_ms": within_ms,
        "grpc.keepalive_permit_without_calls": 1,
    }


def server_options(
    max_message_bytes: int,
    max_connection_age_s: float = 0,
    reuse_port: bool = False,
    connections: int = 0,
    handshake_s: float = 10,
) -> ChannelOptions:
    """Arguments of a listening server. 0 = unlimited; core adds ±10 % jitter of its own to connections' age."""
    table = (
        _sizes(max_message_bytes)
        | _pings(USUAL)
        | {
            "grpc.http2.min_ping_interval_without_data_ms": 10_000,
            "grpc.http2.max_ping_strikes": 0,
            "grpc.so_reuseport": int(reuse_port),
            # One connection's: far over what a client of ours has in flight, far under what exhausts a server.
            "grpc.max_concurrent_streams": MOST_CALLS,
            # Core itself gives who connects and says nothing two minutes.
            HANDSHAKE: round(handshake_s * 1000),
        }
    )
    if connections:
        table["grpc.max_allowed_incoming_connections"] = connections
    if max_connection_age_s:
        table["grpc.max_connection_age_ms"] = round(max_connection_age_s * 1000)
    return options(table)


def client_options(max_message_bytes: int, retry: bool = True, keepalive: Keepalive = USUAL) -> ChannelOptions:
    """Arguments of a client channel: round robin over what DNS gives, retry of UNAVAILABLE only."""
    table = (
        _sizes(max_message_bytes)
        | _pings(keepalive)
        | {
            "grpc.http2.max_pings_without_data": 0,
            # Channels share nothing: another one's failed connection must not make this one wait.
            "grpc.use_local_subchannel_pool": 1,
            "grpc.initial_reconnect_backoff_ms": 100,
            # What an attempt to connect may take, whatever the name says: a loaded machine or a far one needs it.
            "grpc.min_reconnect_backoff_ms": 2_000,
            "grpc.max_reconnect_backoff_ms": 2_000,
            "grpc.enable_retries": int(retry),
            "grpc.service_config": json.dumps(service_config(retry)),
        }
    )
    return options(table)


def service_config(retry: bool = True) -> dict[str, object]:
    """Round robin, and (never after a first reply: core's rule) up to three tries on UNAVAILABLE."""
    config: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if retry:
        config["methodConfig"] = [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
        # Core stops to retry at half of them: all that a dying server may lose at once can be sent again.
        config["retryThrottling"] = {"maxTokens": 1000, "tokenRatio": 0.1}
    return config


def target_of(address: str) -> str:
    """`host:port` → `dns:///host:port`, so that every address behind a name is used."""
    return address if "://" in address or address.startswith("unix:") else f"dns:///{address}"


def open_channel(
    address: str,
    max_message_bytes: int = 64 * MIB,
    retry: bool = True,
    credentials: grpc.ChannelCredentials | Literal[None] = None,
    keepalive: Keepalive = USUAL,
    server_name: str = "",
) -> aio.Channel:
    """A client channel to `address` with the table above; `server_name`: whom its certificate must name."""
    chosen = client_options(max_message_bytes, retry, keepalive)
    if credentials is not None:
        if server_name:
            chosen = (*chosen, *options({"grpc.ssl_target_name_override": server_name}))
        return aio.secure_channel(target_of(address), credentials, options=chosen)
    return aio.insecure_channel(target_of(address), options=chosen)
