"""Clients of other makers against the live suite: @grpc/grpc-js, @connectrpc under Node, gRPC-Web in Chromium."""

import hashlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from tests.needs import needs
from tests.suite.conftest import Suite
from tests.suite.envoy import ROOT, Edge

pytestmark = [pytest.mark.models, pytest.mark.slow, pytest.mark.timeout(600)]

EXAMPLES = ROOT / "tests" / "interop" / "node"
DESCRIPTORS = ROOT / "protos" / "maas.binpb"
CHROMIUM = (
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-quic", "--mute-audio"),
)
UNARY_AND_STREAMS = {
    "ids": [19556, 905, 17],
    "text": "The capital of France is Paris.",
    "late": "DeadlineExceeded",
    "bad": {"code": "InvalidArgument", "reason": "INVALID_FIELD", "field": "sampling.temperature"},
}
SESSIONS = {"session": ["opened", "output", "output", "ended"], "steps": [1, 2], "decoded": "Hello world!"}


def run(command: list[str], folder: Path) -> str:
    path = f"{folder / 'node_modules' / '.bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def packages(locked: Path = EXAMPLES) -> Path:
    """The locked packages of a folder, fetched once for each change of the lock."""
    lock = (locked / "package-lock.json").read_bytes()
    cache = Path(os.environ.get("MAAS_CACHE_DIR", "~/.cache/maas")).expanduser()
    folder = cache / "node" / hashlib.sha256(lock).hexdigest()[:16]
    if not (folder / "complete").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(locked / name, folder)
        run(["npm", "ci", "--no-fund", "--no-audit"], folder)
        (folder / "complete").touch()
    return folder / "node_modules"


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples with their packages and with code generated from the descriptor set."""
    needs("node", "npm")
    folder = tmp_path_factory.mktemp("node")
    for path in EXAMPLES.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    (folder / "node_modules").symlink_to(packages())
    run(["buf", "generate", str(DESCRIPTORS)], folder)
    return folder


def told(node: Path, script: str, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(["node", script, *arguments], node))
    return found


def check(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert {name: found.get(name) for name in expected} == expected
    assert found["parts"] > 1, "a stream comes in parts"


@pytest.mark.parametrize("door", ["gateway", "envoy"])
def test_grpc_js(suite: Suite, front: Edge, node: Path, door: str) -> None:
    address = suite.address() if door == "gateway" else front.address
    found = told(node, "grpc_js.js", address, str(DESCRIPTORS))
    check(found, {"ids": [19556, 905, 17], "text": "The capital of France is Paris.", "late": 4, **SESSIONS})
    assert found["bad"]["code"] == 3
    kinds = {detail["kind"]: detail for detail in found["bad"]["details"]}
    assert kinds["ErrorInfo"]["domain"] == "maas"
    assert kinds["BadRequest"]["field_violations"][0]["field"] == "sampling.temperature"


@pytest.mark.parametrize("door", ["gateway", "envoy"])
def test_connect_over_http2(suite: Suite, front: Edge, node: Path, door: str) -> None:
    address = suite.address() if door == "gateway" else front.address
    check(told(node, "connect_node.js", f"http://{address}"), UNARY_AND_STREAMS | SESSIONS)


def test_grpc_web_under_node(front: Edge, node: Path) -> None:
    check(told(node, "grpc_web.js", f"http://{front.address}"), UNARY_AND_STREAMS)


class Pages(SimpleHTTPRequestHandler):
    """Serves the examples; hands on what a page reports."""

    reports: "Queue[dict[str, Any]]"

    def do_POST(self) -> None:
        self.server.reports.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def pages(folder: Path) -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Pages, directory=str(folder)))
    server.reports = Queue()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("script", ["node_grpc.js", "node_connect.js"])
def test_the_client_examples(suite: Suite, node: Path, script: str) -> None:
    shutil.copy(ROOT / "client" / "examples" / script, node)
    arguments = [suite.address(), str(DESCRIPTORS)] if "grpc" in script else [f"http://{suite.address()}"]
    told = run(["node", script, *arguments], node)
    assert "ids 19556, 905, 17\n" in told and "The capital of France is Paris.\n" in told
    assert "refused" in told and "must be at least 0" in told


def test_a_page_in_chromium(front: Edge, node: Path, tmp_path: Path) -> None:
    needs("chromium")
    with pages(node) as server:
        page = f"http://127.0.0.1:{server.server_port}/page.html?report&edge=http://{front.address}"
        browser = subprocess.Popen(
            [*CHROMIUM, f"--user-data-dir={tmp_path}", page], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            found = server.reports.get(timeout=60)  # type: ignore[attr-defined]
        finally:
            browser.terminate()
            browser.wait(20)
    check(found, UNARY_AND_STREAMS)
    assert found["cache"].startswith(("hit", "miss")), "headers of ours are exposed to pages"
