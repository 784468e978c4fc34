"""No secret is shown: not in logs, statuses, trailers, metrics, flags, run files, nor by `maas doctor`."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc import aio
from prometheus_client import generate_latest

from cli.probe import open_to
from cli.program import PORTS
from cli.supervisor import Supervisor
from cli.up import plan
from gateway.__main__ import build as build_gateway
from gateway.settings import GatewaySettings
from services.runtime.floor import Floor
from services.runtime.settings import load, secrets_of
from services.runtime.tls.settings import TlsSettings
from tests.canaries import Canaries, Everything, Settings, canaries, formed, listed_key, secret_fields
from tests.service.test_hostile_callers import BUILDS, hostile, path_of, served

SERVERS: dict[str, tuple[Settings, Any]] = {**BUILDS, "gateway": (GatewaySettings, build_gateway)}
CLASSES = [cls for cls, _ in SERVERS.values()]
FIELDS = [(cls, name) for cls in CLASSES for name in secret_fields(cls)]
SECRETIVE = re.compile(r"(^|_)(key|keys|token|secret|secrets|password|passphrase|credential|headers)(_|$)")


@pytest.mark.parametrize("cls", CLASSES)
def test_a_setting_that_is_named_like_a_secret_is_one_or_names_its_file(cls: Settings) -> None:
    for name, about in cls.model_fields.items():
        if SECRETIVE.search(name) and name not in secrets_of(cls):
            kinds = get_args(about.annotation) if isinstance(about.annotation, UnionType) else (about.annotation,)
            assert name.endswith("_file") or Path in kinds, f"{cls.__name__}.{name} must be a SecretStr"


@pytest.mark.parametrize(("cls", "name"), FIELDS)
def test_a_secret_is_not_repeated_whether_it_is_good_or_bad(
    cls: Settings, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    canary, variable = "c0ffee" * 10 + "beef", f"MAAS_{name.upper()}"
    good = formed(cls, name, canary)
    assert canary not in repr(load_with(cls, monkeypatch, {variable: good}))
    # Bad itself; good, beside another that is bad; and as a flag, which is refused where it must not be one.
    for given, flags in (({variable: f"no:{canary}@ é"}, []), ({variable: good, "MAAS_PORT": "x"}, [])):
        with pytest.raises(SystemExit):
            load_with(cls, monkeypatch, given, flags)
    if name in secrets_of(cls):
        with pytest.raises(SystemExit):
            load(cls, [f"--{name.replace('_', '-')}={good}"], "test")
    told = capsys.readouterr()
    assert "MAAS_" in told.err and canary not in told.err + told.out


def load_with(
    cls: Settings, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], flags: list[str] | None = None
) -> Any:
    with monkeypatch.context() as patch:
        for key, value in environment.items():
            patch.setenv(key, value)
        return load(cls, flags or [], "test")


@pytest.fixture
async def redis() -> AsyncIterator[str]:
    """HOST:PORT of a Redis that knows another password, and repeats what it was told."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(b"-WRONGPASS " + data.replace(b"\r\n", b" ") + b"\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
def made(tmp_path: Path) -> Canaries:
    return canaries(CLASSES, tmp_path, "127.0.0.1:1")


@pytest.mark.parametrize(
    "names", [("tokenization", "gateway"), pytest.param(tuple(SERVERS), marks=pytest.mark.slow)]
)
async def test_servers_show_no_secret_whatever_they_are_asked(
    names: tuple[str, ...], redis: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = canaries(CLASSES, tmp_path, redis)
    key, forged = listed_key(tmp_path, made, "operator")
    places: dict[str, str] = {}
    with Everything() as logged:
        async with suite(names, made, tmp_path) as floors:
            shown = TlsSettings(tls_authority=made.settings["tls_authority"])
            for name, (floor, address) in floors.items():
                async with open_to(address, shown) as channel:
                    for method in await served(channel, (("x-api-key", key),)):
                        places |= {
                            f"{name} {told}": text async for told, text in answers(channel, method, key, forged)
                        }
                floor.metrics.tell()
                places[f"{name} metrics"] = generate_latest(floor.metrics.registry).decode()
                places[f"{name} settings"] = repr(floor.settings)
    assert any("WRONGPASS" in line or "Redis" in line for line in logged.lines), "Redis was not asked"
    places |= {"logs": "\n".join(logged.lines), "stderr": "".join(capfd.readouterr())}
    assert len(places) > 200
    assert not made.found(places)


@asynccontextmanager
async def suite(
    names: Iterable[str], made: Canaries, folder: Path
) -> AsyncIterator[dict[str, tuple[Floor[Any], str]]]:
    """Every server without a model, by TLS; traces go to nobody, and no Redis lets them in."""
    found: dict[str, tuple[Floor[Any], str]] = {}
    told = {"port": 0, "lame_duck_s": 0, "drain_s": 0.2, "log_level": "debug", "store": folder / "store"}
    told |= {"trace_endpoint": "http://127.0.0.1:1", "trace_ratio": 1.0, "start_wait_s": 0.5}
    told |= {f"{area}_address": "127.0.0.1:1" for area in BUILDS}
    async with AsyncExitStack() as stack:
        for name, (cls, build) in ((name, SERVERS[name]) for name in names):
            behind = {f"{area}_address": address for area, (_, address) in found.items()}
            given = {key: value for key, value in (told | behind).items() if key in cls.model_fields}
            floor: Floor[Any] = Floor(cls(**given, **made.of(cls)))
            await build(floor)
            stack.push_async_callback(floor.close)
            found[name] = (floor, f"127.0.0.1:{await floor.start()}")
        yield found


async def answers(
    channel: aio.Channel, method: MethodDescriptor, key: str, forged: str
) -> AsyncIterator[tuple[str, str]]:
    """What a method says to good, bad and hostile calls, with its metadata: (which call, all of it)."""
    good, overdone = ("x-api-key", key), next(hostile(method)).SerializeToString()
    forgeries = (("x-api-key", forged), ("authorization", f"Bearer {forged[5:]}.b.c"))
    asked = [(good, b""), (good, b"\xff\xff"), (good, overdone), *((one, b"") for one in forgeries)]
    for number, (shown, body) in enumerate(asked):
        call, said = channel.stream_stream(path_of(method))(iter([body]), metadata=[shown], timeout=2), []
        try:
            async for answer in call:
                said.append(repr(answer))
                if method.name.endswith("Watch") or method.name == "WatchModels":
                    call.cancel()
        except (aio.AioRpcError, asyncio.CancelledError):
            pass
        said += [
            str(await call.details()),
            repr(await call.trailing_metadata()),
            repr(await call.initial_metadata()),
        ]
        yield f"{method.full_name} {number}", " ".join(said)


def test_up_gives_no_secret_as_a_flag_nor_to_its_run_file(
    made: Canaries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in made.settings.items():
        monkeypatch.setenv(f"MAAS_{name.upper()}", str(value))
    programs = plan(tmp_path, "127.0.0.1", PORTS, tmp_path / "store", made.settings["redis_url"])
    assert all(made.texts["redis_url"] in one.environment["MAAS_REDIS_URL"] for one in programs)
    supervisor = Supervisor(programs, tmp_path, 1, lambda *_: None)
    supervisor.run_record.save(tmp_path)
    places = {one.name: " ".join(one.command) for one in programs}
    assert not made.found({**places, "run.json": (tmp_path / "run.json").read_text()})


@pytest.mark.slow
def test_the_doctor_tells_no_secret(made: Canaries, tmp_path: Path) -> None:
    environment = os.environ | {f"MAAS_{name.upper()}": str(value) for name, value in made.settings.items()}
    for broken in (
        {},
        {"MAAS_CACHE_KEY": made.texts["cache_key"][:-1]},
        {"MAAS_REDIS_URL": "redis://:" + made.texts["redis_url"]},
    ):
        command = [sys.executable, "-m", "cli", "doctor", "--json", "--quick", f"--home={tmp_path}"]
        run = subprocess.run(command, env=environment | broken, capture_output=True, text=True, timeout=300)
        assert {"redis", "settings of gateway"} <= {one["name"] for one in json.loads(run.stdout)}
        short = Canaries({name: text[:40] for name, text in made.texts.items()})
        assert not short.found({"stdout": run.stdout, "stderr": run.stderr})
