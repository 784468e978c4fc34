"""An address of a service → the addresses of its processes. Knows no channel and no health."""

import asyncio
import ipaddress
import socket

_DNS = "dns:///"
XDS = "xds:///"


def is_name(address: str) -> bool:
    """Whether `address` is one that DNS or a control plane answers for, so that what it stands for may change."""
    if address.startswith(XDS):
        return True
    if address.startswith("unix:") or "://" in address.removeprefix(_DNS):
        return False
    try:
        ipaddress.ip_address(_parts(address)[0])
    except ValueError:
        return True
    return False


def at_first(address: str) -> tuple[str, ...]:
    """What an address stands for while nobody could tell: itself, unless only a control plane knows."""
    return () if address.startswith(XDS) else (address,)


async def resolve(address: str) -> tuple[str, ...]:
    """host:port → ip:port of every process behind the name, sorted; what is no name stands for itself.

    Raises OSError when the name is not known or nobody can be asked.
    """
    if not is_name(address):
        return (address,)
    host, port = _parts(address)
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    return tuple(sorted({_joined(str(place[0]), int(place[1])) for *_, place in found}))


def _parts(address: str) -> tuple[str, str]:
    host, _, port = address.removeprefix(_DNS).rpartition(":")
    return host.strip("[]"), port


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
