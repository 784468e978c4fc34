"""No frames bring the compiled part of our HTTP/2 down, make it tell a call twice, or leave memory behind."""

import asyncio
import logging
import random

import pytest

from services.runtime.h2.native import load
from tests.service import h2_peer as wire
from tests.service.h2_fuzz import Peer, run, sanitized
from tests.service.test_h2 import built, serving, until

pytestmark = pytest.mark.skipif(not built(), reason="needs g++ and libnghttp2.so.14")


@pytest.mark.parametrize("seed", [1, 2])
def test_frames_right_wrong_and_damaged(seed: int) -> None:
    done, calls = run(load(), seed, connections=150)
    assert done == 150 and calls > 1000


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_same_under_the_sanitizers() -> None:
    found = sanitized(60, 3)
    assert found.returncode == 0, found.stderr[-4000:]
    # Deaf sanitizers would say nothing either.
    assert "connections" in found.stdout


async def test_a_server_answers_others_whatever_one_peer_says(caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(5)
    async with serving(idle_s=0.05) as (channel, _, server, port):
        for _ in range(60):
            async with wire.peer(port) as raw:
                raw.say(wire.frame(wire.SETTINGS, wire.ACK), wire.call(1, "/t/both"))
                bad = Peer(chance)
                for _ in range(20):
                    raw.say(bad.says())
                    await asyncio.sleep(0)
            assert await channel.unary_unary("/t/echo")(b"x", timeout=5) == b"x"
        await until(lambda: len(server._connections) == 1)
        assert not any(one.calls for one in server._connections)
    # Neither a call nor a connection ended by an error that nobody foresaw.
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
