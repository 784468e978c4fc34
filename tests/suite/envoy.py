"""The real Envoy with the configuration of deploy/envoy; only addresses are replaced. Knows no stub."""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
CONFIGURATION = ROOT / "deploy" / "envoy" / "envoy.yaml"
ENVOY = Path(sys.executable).with_name("envoy")
STARTS_WITHIN_S = 20


@dataclass(frozen=True)
class Answer:
    """What came over HTTP/1.1; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Edge:
    """A running Envoy: where it listens, and where it tells of itself."""

    port: int
    admin_port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def send(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        return _send(self.port, method, path, body, headers or {})

    def post(self, path: str, request: Any, **headers: str) -> Answer:
        """JSON in; `a_name` of a header stands for `a-name`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send("POST", path, json.dumps(request).encode(), {"content-type": "application/json", **named})

    def get(self, path: str) -> Answer:
        return self.send("GET", path)

    def count(self, name: str) -> int:
        """A counter or gauge of the cluster of gateways, by Envoy's name for it."""
        told = _send(self.admin_port, "GET", f"/stats?filter=^cluster.gateway.{name}$", b"", {}).body.decode()
        return int(told.rpartition(": ")[2]) if told.strip() else 0

    def await_healthy(self, replicas: int) -> None:
        end = time.monotonic() + STARTS_WITHIN_S
        while self.count("membership_healthy") != replicas:
            assert time.monotonic() < end, _send(self.admin_port, "GET", "/clusters", b"", {}).body.decode()
            time.sleep(0.02)


def _send(port: int, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        link.request(method, path, body or None, dict(headers))
        reply = link.getresponse()
        return Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
    finally:
        link.close()


def configuration(gateways: list[str]) -> dict[str, Any]:
    """The committed one, for these gateways, on ports that are free."""
    found: dict[str, Any] = yaml.safe_load(CONFIGURATION.read_text())
    found["admin"]["address"]["socket_address"]["port_value"] = 0
    resources = found["static_resources"]
    resources["listeners"][0]["address"]["socket_address"]["port_value"] = 0
    hosts = [address.rpartition(":") for address in gateways]
    endpoints = [{"socket_address": {"address": host, "port_value": int(port)}} for host, _, port in hosts]
    lines = [{"endpoint": {"address": endpoint}} for endpoint in endpoints]
    resources["clusters"][0]["load_assignment"]["endpoints"] = [{"lb_endpoints": lines}]
    return found


def unchanged(found: dict[str, Any]) -> None:
    """As committed."""


@contextmanager
def edge(
    folder: Path, gateways: list[str], change: Callable[[dict[str, Any]], None] = unchanged
) -> Iterator[Edge]:
    """Envoy in front of `gateways` (host:port), all of them healthy; its log is in `folder`.

    `change` is what a place of one's own does to the configuration.
    """
    if not ENVOY.is_file():
        pytest.skip("not installed: envoy")
    folder.mkdir(parents=True, exist_ok=True)
    change(found := configuration(gateways))
    (folder / "envoy.json").write_text(json.dumps(found))
    (admin := folder / "admin").unlink(missing_ok=True)
    command = [ENVOY, "-c", folder / "envoy.json", "--admin-address-path", admin, "--concurrency", "1"]
    with (folder / "envoy.log").open("wb") as log:
        running = subprocess.Popen([*command, "--disable-hot-restart"], cwd=ROOT, stdout=log, stderr=log)
    try:
        front = _found(running, admin, folder / "envoy.log")
        front.await_healthy(len(gateways))
        yield front
    finally:
        running.terminate()
        running.wait(20)


def _found(running: "subprocess.Popen[bytes]", admin: Path, log: Path) -> Edge:
    end = time.monotonic() + STARTS_WITHIN_S
    while running.poll() is None and time.monotonic() < end:
        if admin.is_file() and (text := admin.read_text()):
            port = int(text.rpartition(":")[2])
            if _send(port, "GET", "/ready", b"", {}).status == 200:
                (listener,) = _send(port, "GET", "/listeners?format=json", b"", {}).json["listener_statuses"]
                return Edge(int(listener["local_address"]["socket_address"]["port_value"]), port)
        time.sleep(0.02)
    raise AssertionError(f"Envoy did not come up: {log.read_text()[-2000:]}")
