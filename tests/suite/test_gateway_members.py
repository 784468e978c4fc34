"""One name, several processes: each is watched and called by itself, and the name is asked again."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway import members
from gateway.__main__ import build
from gateway.backends import Backend
from gateway.members import Members
from maas.vision.v1 import vision_service_pb2, vision_service_pb2_grpc
from services.runtime.channels import open_channel
from tests.harness import running
from tests.suite.gateway_fakes import Behind, Running, behind, settings

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


class Names:
    """The DNS of a test: what the name `pods` stands for now."""

    def __init__(self) -> None:
        self.hosts: tuple[str, ...] = ()
        self.asked = 0

    async def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked += 1
        if host != "pods" or not self.hosts:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in self.hosts]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    found = Names()
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found.getaddrinfo)
    monkeypatch.setattr(members, "RESOLVE_EVERY_S", 0.1)
    monkeypatch.setattr(members, "RESOLVE_PAUSE_S", 0.01)
    return found


@asynccontextmanager
async def pods(names: Names, count: int) -> AsyncIterator[tuple[Callable[[], Any], list[Running], list[Behind]]]:
    """Processes on one port under one name, and a call through a gateway that knows the name alone."""
    services = [behind("vision") for _ in range(count)]
    found = [await Running.start(services[0])]
    for service, host in zip(services[1:], HOSTS[1:], strict=False):
        found.append(await Running.start(service, found[0].port, host))
    names.hosts = names.hosts or HOSTS[:count]
    async with running(settings({"vision": f"pods:{found[0].port}"}, hedge=False), build) as (channel, _):
        stub = vision_service_pb2_grpc.VisionServiceStub(channel)
        picture = vision_service_pb2.ClassifyRequest(images=[{"encoded": b"x"}])
        yield lambda: stub.Classify(picture, metadata=(("cache-control", "no-store"),)), found, services
    for one in found:
        await one.kill()


async def until(true: Callable[[], bool], call: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await call()


async def test_a_name_is_one_replica_a_process(names: Names):
    async with pods(names, 3) as (call, _, services):
        for _ in range(9):
            await call()
        assert [service.calls["Classify"] for service in services] == [3, 3, 3]


@pytest.mark.parametrize("index", [0, 1])
async def test_a_process_that_drains_takes_nothing_from_the_others(names: Names, index: int):
    async with pods(names, 2) as (call, found, services):
        stop = asyncio.Event()

        async def load() -> int:
            answered = 0
            while not stop.is_set():
                await call()
                answered += 1
            return answered

        workers = [asyncio.create_task(load()) for _ in range(4)]
        await found[index].retire()
        before = services[1 - index].calls["Classify"]
        async with asyncio.timeout(10):
            while services[1 - index].calls["Classify"] < before + 20:
                await asyncio.sleep(0.01)
        stop.set()
        assert sum(await asyncio.gather(*workers)) == sum(service.calls["Classify"] for service in services)


async def test_a_process_that_joins_is_found_and_one_that_leaves_ends_its_calls(names: Names):
    names.hosts = HOSTS[:1]
    async with pods(names, 2) as (call, _, (first, second)):
        first.gate.clear()
        held = asyncio.ensure_future(call())
        async with asyncio.timeout(10):
            while not first.calls["Classify"]:
                await asyncio.sleep(0.01)
        names.hosts = HOSTS[1:2]
        later = []
        async with asyncio.timeout(10):
            while not second.calls["Classify"]:
                # Until the name is asked again, its old process is the one that is called.
                later.append(asyncio.ensure_future(call()))
                await asyncio.sleep(0.02)
        first.gate.set()
        await asyncio.gather(*later)
        assert (await held).results[0].labels[0].index == 1


async def test_a_name_that_moves_under_load_loses_no_call(names: Names):
    names.hosts = HOSTS[:1]
    async with pods(names, 2) as (call, _, (first, second)):
        for hosts, service in ((HOSTS[1:2], second), (HOSTS[:1], first)) * 3:
            names.hosts, before = hosts, service.calls["Classify"]
            await until(lambda now=service, then=before: now.calls["Classify"] > then, call)


async def test_a_name_that_is_lost_keeps_what_it_stood_for(names: Names):
    async with pods(names, 2) as (call, _, services):
        await call()
        names.hosts = ()
        asked = names.asked
        await until(lambda: names.asked > asked + 2, call)
        before = [service.calls["Classify"] for service in services]
        await call()
        await call()
        assert [service.calls["Classify"] for service in services] == [count + 1 for count in before]


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_AGAIN, "later"), UnicodeError("label too long")])
async def test_an_address_that_cannot_be_asked_for_stands_for_itself(error: Exception):
    async def refuse(address: str) -> tuple[str, ...]:
        raise error

    backend, found = Backend("vision"), await Running.start(behind("vision"))
    one = Members(backend, [found.address], open_channel, refuse)
    await one.refresh()
    async with asyncio.timeout(10):
        await backend.known()
    assert backend.pick().address == found.address
    await one.close()
    await found.kill()
