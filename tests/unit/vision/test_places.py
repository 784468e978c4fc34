"""Places are bounded; the impatient are refused, the patient served in the order they came."""

import asyncio

import pytest

from services.runtime.errors import Overloaded
from services.vision.places import Places


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_is_at_work_is_bounded_and_given_back() -> None:
    places = Places(64)
    async with places.hold(60):
        with pytest.raises(Overloaded, match="64 is the limit"):
            async with places.hold(5):
                pass
        async with places.hold(4):
            pass
    async with places.hold(64):
        pass


async def test_the_patient_wait_in_line() -> None:
    places, gates, order = Places(10), [asyncio.Event() for _ in range(4)], []

    async def work(number: int, count: int) -> None:
        async with places.hold(count, patient=True):
            order.append(number)
            await gates[number].wait()

    tasks = [asyncio.create_task(work(number, count)) for number, count in enumerate((6, 8, 3, 2))]
    await settle()
    assert order == [0]  # 3 would fit, but 8 came before it
    gates[0].set()
    await settle()
    assert order == [0, 1]
    gates[1].set()
    await settle()
    assert order == [0, 1, 2, 3]
    for gate in gates:
        gate.set()
    await asyncio.gather(*tasks)


async def test_one_who_leaves_the_line_or_fails_keeps_no_place() -> None:
    places = Places(10)

    async def work(count: int) -> None:
        async with places.hold(count, patient=True):
            raise ValueError("failed")

    async with places.hold(10):
        leaving, failing = asyncio.create_task(work(5)), asyncio.create_task(work(10))
        await settle()
        leaving.cancel()
    with pytest.raises(ValueError, match="failed"):
        await failing
    assert leaving.cancelled()
    async with places.hold(10):
        pass
