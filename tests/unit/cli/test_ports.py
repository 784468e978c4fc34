"""Wanted ports are checked before anything starts."""

import socket

import pytest

from cli import ports
from services.runtime.errors import PreconditionFailed


def test_a_taken_port_is_named_with_its_flag() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PreconditionFailed, match=rf"vision: 127\.0\.0\.1:{port} is in use .*--vision-port"):
            ports.check("127.0.0.1", {"vision": port}, 0)
        with pytest.raises(PreconditionFailed, match="vision metrics"):
            ports.check("127.0.0.1", {"vision": port - 7}, 7)
    ports.check("127.0.0.1", {"vision": port}, 0)


def test_any_free_port_is_free() -> None:
    assert ports.is_free("127.0.0.1", ports.any_free("127.0.0.1"))
