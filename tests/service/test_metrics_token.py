"""The metrics port where a token is set: who shows it is told, nobody else."""

import asyncio
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from cli.ports import any_free
from services.runtime.errors import InvalidInput
from services.runtime.metrics import Metrics
from services.runtime.telemetry.guard import token
from services.runtime.telemetry.port import opened

OLD, NEW = "a" * 32, "b" * 32


def asked(port: int, shown: str = "") -> tuple[int, bytes]:
    headers = {"authorization": shown} if shown else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/", headers=headers)) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


async def test_metrics_are_told_to_who_shows_the_token_of_now(tmp_path: Path) -> None:
    file, port = tmp_path / "token", any_free("127.0.0.1")
    file.write_text(f"{OLD}\n")
    stop, _ = opened(Metrics(), ("127.0.0.1", port), secret=file)
    try:
        for shown in ("", OLD, f"Basic {OLD}", f"Bearer {NEW}", "Bearer "):
            code, said = await asyncio.to_thread(asked, port, shown)
            assert code == 401 and b"maas_" not in said and OLD.encode() not in said, shown
        assert (await asyncio.to_thread(asked, port, f"Bearer {OLD}"))[0] == 200
        file.write_text(NEW)
        assert (await asyncio.to_thread(asked, port, f"Bearer {OLD}"))[0] == 401
        code, said = await asyncio.to_thread(asked, port, f"Bearer {NEW}")
        assert code == 200 and b"grpc_server_call" in said
    finally:
        await asyncio.to_thread(stop)


@pytest.mark.parametrize("text", ["", "short", "with a\nbreak that is long enough"])
def test_a_token_that_could_be_guessed_is_none(text: str) -> None:
    with pytest.raises(InvalidInput, match="16"):
        token(text)
