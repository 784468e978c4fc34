"""A collector of OTLP over gRPC: one channel of its own, used on one thread. Knows no span and no metric."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc

from services.runtime.channels import options
from services.runtime.tracing.outlet import Away

TIMEOUT_S = 5.0
# OTLP 1.x, "Failures": these may pass by themselves.
PASSING = frozenset(
    {
        *(grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED),
        *(grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS),
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
OPTIONS = options({"grpc.use_local_subchannel_pool": 1, "grpc.max_reconnect_backoff_ms": 10_000})


class Caller:
    """One method of a collector at `address`: `http://HOST:PORT` or `HOST:PORT` in clear, `https://…` in TLS."""

    def __init__(
        self, address: str, path: str, headers: Sequence[tuple[str, str]] = (), authority: Path | None = None
    ) -> None:
        scheme, _, target = address.rstrip("/").rpartition("://")
        if scheme == "https":
            trusted = authority.read_bytes() if authority else None
            self._channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(trusted), OPTIONS)
        else:
            self._channel = grpc.insecure_channel(target, OPTIONS)
        serialize: Callable[[Any], bytes] = lambda message: message.SerializeToString()  # noqa: E731
        self._call = self._channel.unary_unary(path, request_serializer=serialize)
        self._headers = tuple(headers)

    def send(self, message: Any) -> None:
        """Raises Away, or grpc.RpcError for what will never be taken."""
        try:
            self._call(message, timeout=TIMEOUT_S, metadata=self._headers)
        except grpc.RpcError as error:
            if error.code() in PASSING:
                raise Away(error.details()) from None
            raise

    def close(self) -> None:
        self._channel.close()
