"""A client of the MaaS suite: `AsyncClient` for asyncio, `Client` for everything else, with the same methods.

with maas_client.Client("localhost:50050") as client:
    print(client.generate("Once upon a time", max_tokens=20).text)
"""

from maas_client import ask
from maas_client.aio.client import AsyncClient
from maas_client.ask.gateway import Step
from maas_client.call import Ask, CallInfo
from maas_client.connection import Tls
from maas_client.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    MaasError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    SessionEnded,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Violation,
)
from maas_client.sync.client import Client

__all__ = [
    "Ask",
    "AsyncClient",
    "CallInfo",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "MaasError",
    "NotFound",
    "PermissionDenied",
    "ResourceExhausted",
    "SessionEnded",
    "Step",
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Violation",
    "ask",
]
