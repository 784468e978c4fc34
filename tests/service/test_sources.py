"""Sources over real sockets: a package index and a model hub on loopback, both tiny fakes of ours."""

import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.runtime.errors import InvalidInput, NotFound, Unavailable
from services.runtime.store.sources.fetcher import Fetcher, SourceChanged

Route = Callable[[http.server.BaseHTTPRequestHandler], None]
DATA = bytes(range(256)) * 2000
DATA_SHA = hashlib.sha256(DATA).hexdigest()


class Index:
    """A PEP 503 index: one package as wheel 1.0 and as sdist 2.0; `cut` ends the first answer early."""

    def __init__(self) -> None:
        self.wheel = wheel_of(DATA)
        self.files = {"pkg-1.0-py3-none-any.whl": self.wheel, "pkg-2.0.tar.gz": sdist_of(DATA)}
        self.hashes = {name: hashlib.sha256(content).hexdigest() for name, content in self.files.items()}
        self.cut: int | None = None
        self.requests: list[tuple[str, str | None]] = []

    def get(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        self.requests.append((handler.path, handler.headers.get("Range")))
        name = handler.path.rsplit("/", 1)[-1]
        if handler.path == "/simple/pkg/":
            links = "".join(f'<a href="/f/{n}#sha256={h}">{n}</a>' for n, h in self.hashes.items())
            return answer(handler, f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html")
        if name in self.files:
            return self.send(handler, self.files[name])
        return handler.send_error(404)

    def send(self, handler: http.server.BaseHTTPRequestHandler, content: bytes) -> None:
        wanted = handler.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        handler.send_response(206 if wanted else 200)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        end, self.cut = self.cut, None
        handler.wfile.write(content[start:end])
        handler.close_connection = True


def answer(handler: http.server.BaseHTTPRequestHandler, body: bytes, kind: str, **headers: str) -> None:
    handler.send_response(200)
    for key, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
        handler.send_header(key.replace("_", "-"), value)
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(body)


def wheel_of(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("pkg/data.bin", data)
    return buffer.getvalue()


def sdist_of(data: bytes) -> bytes:
    buffer = io.BytesIO()
    code = b"raise SystemExit('package code was run')"
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in {"pkg-2.0/setup.py": code, "pkg-2.0/pkg/data.bin": data}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@contextmanager
def serving(get: Route) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            get(self)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    index = Index()
    with serving(index.get) as address:
        for key in [key for key in os.environ if key.startswith("PIP_") or key.lower().endswith("_proxy")]:
            monkeypatch.delenv(key)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple")
        yield index


def test_a_wheel_member_comes_once_through_the_configured_index(index: Index, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    fetcher = Fetcher(tmp_path, lambda label, done, total: seen.append((done, total)))
    path = fetcher.fetch("pypi:pkg==1.0:pkg/data.bin", DATA_SHA)
    assert path.read_bytes() == DATA and path.name == DATA_SHA
    assert seen[-1] == (len(index.wheel), len(index.wheel)) and len(seen) > 1
    asked = len(index.requests)
    assert fetcher.fetch("pypi:pkg==1.0:pkg/data.bin", DATA_SHA) == path and len(index.requests) == asked
    fetcher.forget_archives()
    assert [entry.name for entry in sorted(tmp_path.iterdir())] == sorted([DATA_SHA, "lock"])


def test_a_source_archive_is_read_without_running_it(index: Index, tmp_path: Path) -> None:
    assert Fetcher(tmp_path).fetch("pypi:pkg==2.0:pkg/data.bin", DATA_SHA).read_bytes() == DATA


def test_a_broken_download_goes_on_where_it_stopped(index: Index, tmp_path: Path) -> None:
    index.cut = 100_000
    assert Fetcher(tmp_path).fetch("pypi:pkg==1.0:pkg/data.bin", DATA_SHA).read_bytes() == DATA
    assert [wanted for path, wanted in index.requests if path.startswith("/f/")] == [None, "bytes=100000-"]


def test_an_archive_that_is_not_what_the_index_says_is_refused(index: Index, tmp_path: Path) -> None:
    index.files["pkg-1.0-py3-none-any.whl"] = wheel_of(b"other")
    with pytest.raises(Unavailable, match="index says"):
        Fetcher(tmp_path).fetch("pypi:pkg==1.0:pkg/data.bin", DATA_SHA)
    assert not list(tmp_path.glob("archives/*/*"))


def test_a_member_that_is_not_what_the_catalogue_says_is_refused(index: Index, tmp_path: Path) -> None:
    with pytest.raises(SourceChanged, match=DATA_SHA):
        Fetcher(tmp_path).fetch("pypi:pkg==1.0:pkg/data.bin", "0" * 64)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["lock"]


def test_unknown_versions_members_and_packages_are_named(index: Index, tmp_path: Path) -> None:
    fetcher = Fetcher(tmp_path)
    with pytest.raises(NotFound, match=r"available: 1\.0, 2\.0"):
        fetcher.fetch("pypi:pkg==3.0:pkg/data.bin", DATA_SHA)
    with pytest.raises(NotFound, match=r"pkg/data\.bin"):
        fetcher.fetch("pypi:pkg==1.0:pkg/none.bin", DATA_SHA)
    with pytest.raises(NotFound, match="available: none"):
        fetcher.fetch("pypi:other==1.0:x", DATA_SHA)
    for malformed in ("pypi:pkg", "pypi:pkg==1.0", "pypi:pkg>=1:x", "pypi:==1.0:x"):
        with pytest.raises(InvalidInput, match="NAME==VERSION"):
            fetcher.fetch(malformed, DATA_SHA)


HUB_CLIENT = """
import sys
from pathlib import Path
from services.runtime.store.sources import hf
from services.runtime.store.sources.report import silent
try:
    print(hf.fetch(sys.argv[1], Path(sys.argv[2]), silent).read_text())
except Exception as error:
    print(type(error).__name__)
"""


def hub(handler: http.server.BaseHTTPRequestHandler) -> None:
    """The calls huggingface_hub makes for one small file at one revision."""
    commit = "a" * 40
    if handler.path == f"/me/net/resolve/{commit}/config.json":
        etag = hashlib.sha1(b"{}").hexdigest()
        return answer(handler, b"{}", "application/json", ETag=f'"{etag}"', X_Repo_Commit=commit)
    body = json.dumps({"error": "Entry not found"}).encode()
    handler.send_response(404)
    for key, value in {
        "X-Error-Code": "EntryNotFound",
        "X-Repo-Commit": commit,
        "Content-Length": str(len(body)),
    }.items():
        handler.send_header(key, value)
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(body)
    return None


def run_hub_client(locator: str, cache: Path, endpoint: str, **more: str) -> str:
    kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    hub_variables = {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment = {**kept, **hub_variables, **more}
    command = [sys.executable, "-c", HUB_CLIENT, locator, str(cache)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_a_hub_file_at_a_revision(tmp_path: Path) -> None:
    with serving(hub) as address:
        commit = "a" * 40
        assert run_hub_client(f"me/net@{commit}:config.json", tmp_path, address) == "{}"
        assert run_hub_client(f"me/net@{commit}:none.json", tmp_path, address) == "NotFound"
        offline = run_hub_client(f"me/net@{commit}:more.json", tmp_path, address, HF_HUB_OFFLINE="1")
        assert offline == "Unavailable"
