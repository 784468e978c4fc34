"""Finds ports: whether the wanted ones are free, and any free one. Starts nothing."""

import socket
from collections.abc import Mapping

from services.runtime.errors import PreconditionFailed


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def check(host: str, ports: Mapping[str, int], offset: int) -> None:
    """PreconditionFailed names every wanted port, and metrics port at `offset`, that is taken."""
    wanted = [(name, port, f"--{name}-port") for name, port in ports.items()]
    wanted += [(f"{name} metrics", port + offset, f"--{name}-port") for name, port in ports.items()]
    taken = [
        f"{name}: {host}:{port} is in use (choose another with {flag})"
        for name, port, flag in wanted
        if not is_free(host, port)
    ]
    if taken:
        raise PreconditionFailed("; ".join(taken), reason="PORT_IN_USE")


def any_free(host: str) -> int:
    """A port nobody listens on right now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port
