"""The port where Prometheus asks. Knows no metric."""

import os
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry, multiprocess, start_http_server

from services.runtime.followed import Followed
from services.runtime.metrics import Metrics
from services.runtime.settings import ServerSettings
from services.runtime.telemetry import guard
from services.runtime.telemetry.siblings import MARK
from services.runtime.telemetry.teller import Registry
from services.runtime.tls.material import Material

Stop = Callable[[], None]


def expose(metrics: Metrics, chosen: ServerSettings, certificates: Followed[Material] | None) -> Stop:
    """Serves /metrics on its own thread, in TLS where the other port is; returns what stops it.

    With several workers, sums over all of them. Raises RuntimeError when the port cannot be had.
    """
    if chosen.metrics_address is None:
        return lambda: None
    _tell_end(metrics, certificates)
    authority = chosen.tls_authority if chosen.tls_metrics_clients else None
    stop, renew = opened(
        metrics,
        chosen.metrics_address,
        chosen.tls_certificate,
        chosen.tls_key,
        chosen.metrics_token_file,
        authority,
    )
    if certificates is not None:
        certificates.listeners += [renew, lambda: _tell_end(metrics, certificates)]
    return stop


def _tell_end(metrics: Metrics, certificates: Followed[Material] | None) -> None:
    expires = certificates.value.expires if certificates is not None else None
    metrics.certificate_end.set(expires.timestamp() if expires is not None else 0)


def opened(
    metrics: Metrics,
    address: tuple[str, int],
    certificate: Path | None = None,
    key: Path | None = None,
    secret: Path | None = None,
    authority: Path | None = None,
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Returns what stops it, and what has it read its certificate again; `secret`: a file of the token to show,
    `authority`: of the certificates that must be shown. Raises RuntimeError.
    """
    registry: CollectorRegistry = metrics.registry
    if MARK in os.environ:
        registry = Registry(metrics.tell)
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    host, port = address
    try:
        chain, secret_key, clients = (
            None if file is None else str(file) for file in (certificate, key, authority)
        )
        server, thread = start_http_server(
            port, host, registry, chain, secret_key, clients, client_auth_required=authority is not None
        )
    except OSError as error:
        raise RuntimeError(f"metrics cannot listen on {host}:{port}: {error.strerror}") from error

    if secret is not None:
        followed = Followed(secret, guard.token)

        def wanted() -> str:
            followed.refresh()
            return followed.value

        server.set_app(guard.guarded(server.get_app(), wanted))  # type: ignore[arg-type]

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    def renew() -> None:
        if certificate is not None:
            server.socket.context.load_cert_chain(certificate, key)  # type: ignore[attr-defined]
        if authority is not None:
            server.socket.context.load_verify_locations(authority)  # type: ignore[attr-defined]

    return stop, renew
