"""Asks a running program whether it serves. Starts and stops nothing."""

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.runtime.channels import open_channel
from services.runtime.tls.credentials import of_client
from services.runtime.tls.settings import TlsSettings

TIMEOUT_S = 2.0
SERVING = health_pb2.HealthCheckResponse.SERVING


async def grpc_serving(address: str, tls: TlsSettings | None = None) -> bool:
    """Whether the server at `address` says SERVING for itself as a whole."""
    async with open_to(address, tls) as channel:
        try:
            stub = health_pb2_grpc.HealthStub(channel)
            reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError:
            return False
    return bool(reply.status == SERVING)


async def grpc_health(address: str, tls: TlsSettings | None = None) -> dict[str, bool] | None:
    """Health name → whether it serves, of all the server knows; None where nobody answers."""
    async with open_to(address, tls) as channel:
        try:
            stub = health_pb2_grpc.HealthStub(channel)
            reply = await stub.List(health_pb2.HealthListRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError:
            return None
    return {name: state.status == SERVING for name, state in reply.statuses.items()}


def open_to(address: str, tls: TlsSettings | None) -> aio.Channel:
    """A channel that tries nothing twice."""
    if tls is None or not tls.tls_paths:
        return open_channel(address, retry=False)
    return open_channel(
        address, retry=False, credentials=of_client(tls.read_tls()), server_name=tls.tls_server_name
    )


async def redis_answers(url: str) -> bool:
    """Whether a Redis-compatible server answers PING at `url`."""
    client = Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
    try:
        await client.ping()
    except (RedisError, OSError):
        return False
    else:
        return True
    finally:
        await client.aclose()
