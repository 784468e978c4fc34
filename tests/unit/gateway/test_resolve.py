"""Which addresses are names, and what a name stands for."""

import asyncio
import socket
from typing import Any

import pytest

from gateway.resolve import is_name, resolve


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("vision:50052", True),
        ("dns:///vision.maas.svc:50052", True),
        ("localhost:1", True),
        ("127.0.0.1:1", False),
        ("dns:///127.0.0.1:1", False),
        ("[::1]:1", False),
        ("unix:/run/vision.sock", False),
        ("unix:///run/vision.sock", False),
        ("ipv4:///127.0.0.1:1", False),
        ("dns://8.8.8.8/vision:1", False),
    ],
)
def test_what_is_a_name(address: str, expected: bool):
    assert is_name(address) is expected


async def test_a_name_stands_for_each_of_its_processes_once(monkeypatch: pytest.MonkeyPatch):
    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        assert (host, port) == ("vision", 7)
        v4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.2", 7))
        return [v4, v4, (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::1", 7, 0, 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    assert await resolve("dns:///vision:7") == ("10.0.0.2:7", "[fd00::1]:7")
    assert await resolve("unix:/run/v.sock") == ("unix:/run/v.sock",)
    assert await resolve("127.0.0.1:7") == ("127.0.0.1:7",)
