"""TLS through real servers: who is let in, what a changed certificate does, that nothing is served in clear."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from grpc import aio

from cli.authority import Authority
from cli.ports import any_free
from cli.program import METRICS_OFFSET
from cli.top.scrape import scrapes
from gateway.__main__ import build as build_gateway
from gateway.settings import GatewaySettings
from maas.admin.v1 import admin_service_pb2 as admin
from maas.admin.v1.admin_service_pb2_grpc import AdminServiceStub
from maas.tokenization.v1 import tokenization_service_pb2 as pb
from maas.tokenization.v1 import tokenization_service_pb2_grpc as pb_grpc
from services.runtime import probe
from services.runtime import settings as reading
from services.runtime.channels import open_channel
from services.runtime.floor import Floor
from services.runtime.health import PROCESS
from services.runtime.metrics import Metrics
from services.runtime.settings import ServerSettings
from services.runtime.telemetry.port import expose, opened
from services.runtime.tls import material
from services.runtime.tls.credentials import of_client
from services.runtime.tls.settings import TlsSettings

POLL_S = 0.02
POLICY = """
[[allow]]
administration = true
[[allow]]
methods = ["maas.vision.*"]
"""


class Echo(pb_grpc.TokenizationServiceServicer):
    async def Detokenize(self, request: pb.DetokenizeRequest, context: Any) -> pb.DetokenizeResponse:
        return pb.DetokenizeResponse(texts=["well"])

    async def DetokenizeStream(self, requests: Any, context: Any) -> AsyncIterator[pb.DetokenizeStreamResponse]:
        async for _ in requests:
            yield pb.DetokenizeStreamResponse(text_delta="well")


async def build(floor: Floor[ServerSettings]) -> None:
    floor.add(pb_grpc.add_TokenizationServiceServicer_to_server, Echo())


class Files:
    """An authority, the certificate of a server and that of a caller."""

    def __init__(self, root: Path, transport: str = "native") -> None:
        self.root, self.transport = root, transport
        self.authority = Authority(root)
        self.renew()
        self.caller = self.authority.issue("caller", [], 1)

    def renew(self) -> None:
        self.chain, self.key = self.authority.issue("server", ["localhost", "127.0.0.1"], 1)

    @property
    def settings(self) -> dict[str, Any]:
        return {"tls_certificate": self.chain, "tls_key": self.key, "tls_authority": self.root / "authority.pem"}

    def channel(self, address: str, shows: bool = False) -> aio.Channel:
        pair = self.caller if shows else (None, None)
        credentials = of_client(material.read(*pair, self.root / "authority.pem"))
        return open_channel(address, retry=False, credentials=credentials)


@pytest.fixture(params=["native", "grpc"])
def files(tmp_path: Path, request: pytest.FixtureRequest) -> Files:
    return Files(tmp_path / "ours", request.param)


@asynccontextmanager
async def serving(files: Files, **more: Any) -> AsyncIterator[tuple[str, Floor[ServerSettings]]]:
    told = {"port": 0, "lame_duck_s": 0, "drain_s": 0.2, "store_poll_s": POLL_S, "transport": files.transport}
    told |= {**files.settings, **more}
    floor: Floor[ServerSettings] = Floor(ServerSettings(**told))
    await build(floor)
    port = await floor.start()
    try:
        yield f"127.0.0.1:{port}", floor
    finally:
        await floor.close()


async def ask(channel: aio.Channel) -> str:
    request = pb.DetokenizeRequest(sequences=[{"values": [1]}])
    reply = await pb_grpc.TokenizationServiceStub(channel).Detokenize(request, timeout=5)
    return str(reply.texts[0])


async def refused(channel: aio.Channel) -> bool:
    async with channel:
        with pytest.raises(aio.AioRpcError) as error:
            await ask(channel)
        return error.value.code() is grpc.StatusCode.UNAVAILABLE


async def serial(address: str) -> int:
    """Of the certificate that the next one to connect is shown."""
    host, _, port = address.rpartition(":")
    pem = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


async def taken(floor: Floor[Any], before: object) -> None:
    assert floor.certificates
    while floor.certificates.value is before:
        await asyncio.sleep(POLL_S)


async def test_who_knows_the_authority_is_served_and_nobody_in_clear(files: Files, tmp_path: Path) -> None:
    async with serving(files) as (address, _):
        async with files.channel(address) as channel:
            assert await ask(channel) == "well"
        assert await refused(open_channel(address, retry=False))
        assert await refused(Files(tmp_path / "others").channel(address))


async def test_mutual_tls_asks_callers_for_a_certificate_of_the_authority(files: Files, tmp_path: Path) -> None:
    async with serving(files, tls_clients=True) as (address, _):
        async with files.channel(address, shows=True) as channel:
            assert await ask(channel) == "well"
        assert await refused(files.channel(address))
        stranger = Files(tmp_path / "others")
        stranger.root = files.root
        assert await refused(stranger.channel(address, shows=True))


async def test_changed_certificate_is_shown_to_the_next_and_cuts_nobody(files: Files) -> None:
    async with serving(files) as (address, floor), files.channel(address) as channel:
        stream = pb_grpc.TokenizationServiceStub(channel).DetokenizeStream()
        await stream.write(pb.DetokenizeStreamRequest(ids=[1]))
        assert (await stream.read()).text_delta == "well"
        before, shown = await serial(address), floor.certificates and floor.certificates.value
        files.renew()
        await taken(floor, shown)
        assert await serial(address) != before
        await stream.write(pb.DetokenizeStreamRequest(ids=[1]))
        assert (await stream.read()).text_delta == "well"
        assert await ask(channel) == "well"
        stream.cancel()


async def test_pair_that_does_not_agree_changes_nothing(files: Files) -> None:
    async with serving(files) as (address, floor):
        before = await serial(address)
        files.key.write_bytes(files.caller[1].read_bytes())
        assert floor.certificates
        await asyncio.to_thread(floor.certificates.refresh)
        assert await serial(address) == before


async def test_a_changed_authority_knows_its_own_and_cuts_nobody(files: Files, tmp_path: Path) -> None:
    others = Files(tmp_path / "others")
    async with (
        serving(files, tls_clients=True) as (address, floor),
        files.channel(address, shows=True) as standing,
    ):
        assert await ask(standing) == "well"
        shown = floor.certificates and floor.certificates.value
        for ours, theirs in zip((files.key, files.chain), (others.key, others.chain), strict=True):
            ours.write_bytes(theirs.read_bytes())
        (files.root / "authority.pem").write_bytes((others.root / "authority.pem").read_bytes())
        await taken(floor, shown)
        async with asyncio.timeout(5):
            while not await lets_in(others.channel(address, shows=True)):
                pass
        # Trusts the new authority, and shows what the old one signed.
        assert not await lets_in(files.channel(address, shows=True))
        assert await ask(standing) == "well"


async def lets_in(channel: aio.Channel) -> bool:
    async with channel:
        try:
            return await ask(channel) == "well"
        except aio.AioRpcError:
            return False


async def test_a_certificate_says_whose_call_it_is(files: Files, tmp_path: Path) -> None:
    listed = tmp_path / "keys.toml"
    listed.write_text('[[certificates]]\nsubject = "maas:caller"\ntenant = "acme"\n')
    async with serving(files, tls_clients=True, api_keys_file=str(listed)) as (address, _):
        async with files.channel(address, shows=True) as channel:
            assert await ask(channel) == "well"
        files.caller = files.authority.issue("stranger", [], 1)
        async with files.channel(address, shows=True) as channel:
            with pytest.raises(aio.AioRpcError) as error:
                await ask(channel)
        assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_certificates_policy_and_log_level_change_under_load_and_no_call_fails(
    files: Files, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    async with serving(files, tls_clients=True) as (address, service):
        more: dict[str, Any] = {
            f"{area}_address": address for area in ("tokenization", "vision", "sequence", "generation")
        }
        more |= {"transport": files.transport, "redis_url": "", "tls_clients": True, "policy_file": str(policy)}
        told = {"port": 0, "lame_duck_s": 0, "drain_s": 1, "store_poll_s": POLL_S, **more}
        floor: Floor[GatewaySettings] = Floor(GatewaySettings(**files.settings, **told))
        await build_gateway(floor)
        port = await floor.start()
        try:
            async with files.channel(f"127.0.0.1:{port}", shows=True) as channel:
                done = asyncio.Event()
                load = [asyncio.create_task(_asking(channel, done)) for _ in range(4)]
                for turn in range(3):
                    shown = [one.certificates and one.certificates.value for one in (service, floor)]
                    files.renew()
                    rules = floor.doorkeeper.files[0].value
                    policy.write_text(f"{POLICY}models = ['never-{turn}']\n")
                    raised = admin.SetLogLevelRequest(
                        logger="maas.call", level=turn + 1, for_s=60, service="tokenization"
                    )
                    told = await AdminServiceStub(channel).SetLogLevel(raised)
                    assert ("maas.call", turn + 1) in [(one.logger, one.level) for one in told.levels]
                    for one, before in zip((service, floor), shown, strict=True):
                        await taken(one, before)
                    while floor.doorkeeper.files[0].value is rules:
                        await asyncio.sleep(POLL_S)
                    await asyncio.sleep(0.1)
                done.set()
                assert min(await asyncio.gather(*load)) > 0
        finally:
            await floor.close()


async def _asking(channel: aio.Channel, done: asyncio.Event) -> int:
    """Calls that went well; the first that does not is raised."""
    count = 0
    while not done.is_set():
        assert await ask(channel) == "well"
        count += 1
    return count


async def test_metrics_are_served_by_tls_too(files: Files) -> None:
    port = any_free("127.0.0.1")
    floor: Floor[ServerSettings] = Floor(ServerSettings(port=0))
    stop, renew = opened(floor.metrics, ("127.0.0.1", port), files.chain, files.key)
    try:
        before = await serial(f"127.0.0.1:{port}")
        files.renew()
        renew()
        assert await serial(f"127.0.0.1:{port}") != before
    finally:
        await asyncio.to_thread(stop)


async def test_metrics_ask_for_a_certificate_where_told_to(files: Files) -> None:
    flags = [f"--{name.replace('_', '-')}={path}" for name, path in files.settings.items()]
    port = any_free("127.0.0.1")
    chosen = reading.load(ServerSettings, [*flags, "--tls-metrics-clients", f"--metrics-port={port}"], "test")
    stop, address = expose(Metrics(), chosen, None), f"127.0.0.1:{port - METRICS_OFFSET}"
    try:
        (shown,) = await scrapes([address], chosen, {})
        (hidden,) = await scrapes([address], TlsSettings(tls_authority=chosen.tls_authority), {})
    finally:
        await asyncio.to_thread(stop)
    assert shown is not None and hidden is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org"])
def test_nothing_is_served_in_clear_to_others_unless_asked_for(
    host: str, files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        reading.load(ServerSettings, ["--host", host], "test")
    told = capsys.readouterr().err
    assert host in told
    assert "MAAS_PLAINTEXT" in told
    assert reading.load(ServerSettings, ["--host", host, "--plaintext"], "test").host == host
    flags = [f"--{name.replace('_', '-')}={path}" for name, path in files.settings.items()]
    assert reading.load(ServerSettings, ["--host", host, *flags], "test").tls


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--tls-certificate=no.pem", "--tls-key=no.key"], "no.pem"),
        (["--tls-certificate=no.pem"], "MAAS_TLS_KEY"),
        (["--tls-clients"], "MAAS_TLS_AUTHORITY"),
    ],
)
def test_what_is_not_whole_stops_the_start_and_says_why(
    flags: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        reading.load(ServerSettings, flags, "test")
    assert told in capsys.readouterr().err


def test_problem_of_several_settings_shows_no_secret(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "ab" * 32
    monkeypatch.setenv("MAAS_MESH_KEY", secret)
    with pytest.raises(SystemExit):
        reading.load(ServerSettings, ["--tls-clients"], "test")
    assert secret not in capsys.readouterr().err


async def test_a_probe_asks_by_the_tls_of_its_environment(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Kubernetes cannot: who shows nothing is told that there is no way in."""
    shown = TlsSettings(**files.settings)
    async with serving(files, tls_clients=True) as (address, _):
        for arguments in ([address], [address, PROCESS]):
            assert await asyncio.to_thread(probe.main, arguments, shown) == 0
        assert await asyncio.to_thread(probe.main, [address, "maas.model/none"], shown) == 1
        assert await asyncio.to_thread(probe.main, [address], TlsSettings()) == 1
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in told] == ["SERVING", "SERVING", "NOT_FOUND", "UNAVAILABLE"]
