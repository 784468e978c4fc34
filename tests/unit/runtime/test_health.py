"""What watchers of the health are told."""

from services.runtime.health import NOT_SERVING, PROCESS, SERVING, Readiness


async def test_who_watches_hears_of_the_drain_even_if_the_watches_end_at_once() -> None:
    readiness = Readiness()
    readiness.set("", True)
    watch = readiness.watch("")
    assert await anext(watch) == SERVING
    readiness.drain()
    readiness.end_watches()
    assert [status async for status in watch] == [NOT_SERVING]


async def test_a_process_lives_with_nothing_to_serve_and_while_it_drains() -> None:
    readiness = Readiness()
    assert (readiness.status(""), readiness.status(PROCESS)) == (NOT_SERVING, SERVING)
    readiness.drain()
    assert readiness.status(PROCESS) == SERVING
