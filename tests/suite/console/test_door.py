"""Who may ask what through the console: keys, foreign pages, metrics behind a token; and how it ends."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.program import METRICS_OFFSET
from services.runtime.metrics import Metrics
from services.runtime.telemetry.port import opened
from tests.suite.browser import Page
from tests.suite.conftest import Suite, free_ports
from tests.suite.console.pages import at
from tests.suite.console.process import Console, serving

pytestmark = [pytest.mark.models, pytest.mark.slow, pytest.mark.timeout(600)]

TOKEN = "a token that is long enough"


def test_a_key_goes_with_each_call(page: Page, console: Console) -> None:
    at(page, console, "status")
    page.click("#key")
    page.fill("#credential input", "maas_none")
    page.click("#credential button.first")
    page.until("document.querySelector('#key').textContent === 'Key ✓'")
    page.run(
        "window.seen = []; const honest = fetch;"
        "window.fetch = (url, init) => (seen.push([url, init?.headers.authorization]), honest(url, init))"
    )
    page.until("seen.length > 8")
    assert page.run("seen.every(([url, key]) => (key === 'Bearer maas_none') === url.startsWith('/v1/'))")
    page.run("sessionStorage.clear()")


def test_foreign_pages_are_kept_out(console: Console) -> None:
    call = "/v1/tokenization:tokenize"
    assert console.status_of(call, {"origin": console.url, "host": f"localhost:{console.port}"}) == 200
    assert console.status_of(call, {"origin": "http://evil.example"}) == 403
    assert console.status_of(call, {}) == 403
    assert console.status_of("/", {"host": "evil.example"}, "GET") == 404
    assert console.status_of("/../pyproject.toml", {}, "GET") == 404


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Where a gateway would be whose metrics ask for a token, and the file of it."""
    file, (port,) = tmp_path / "token", free_ports(1)
    file.write_text(f"{TOKEN}\n")
    stop, _ = opened(Metrics(), ("127.0.0.1", port + METRICS_OFFSET), secret=file)
    yield f"127.0.0.1:{port}", file
    stop()


def test_metrics_behind_a_token_are_shown_with_its_file(guarded: tuple[str, Path], tmp_path: Path) -> None:
    gateway, file = guarded
    with serving(tmp_path, f"--address={gateway}", f"--metrics-token-file={file}") as console:
        # A browser's own key does not stand in the way.
        assert console.status_of("/metrics/gateway", {"authorization": "Bearer maas_other"}, "GET") == 200
    assert TOKEN not in "".join(path.read_text() for path in (tmp_path / "console").iterdir())
    assert "401" not in console.said


def test_metrics_behind_a_token_without_it_say_what_to_do(guarded: tuple[str, Path], tmp_path: Path) -> None:
    gateway, file = guarded
    with serving(tmp_path, f"--address={gateway}") as console:
        assert console.status_of("/metrics/gateway", {}, "GET") == 401
    assert "metrics of gateway ask for a token (401)" in console.said
    file.with_name("other").write_text("b" * 32)
    with serving(tmp_path, f"--address={gateway}", f"--metrics-token-file={file.with_name('other')}") as console:
        assert console.status_of("/metrics/gateway", {}, "GET") == 401
    assert "metrics of gateway refuse the token of" in console.said


def test_the_page_says_which_metrics_ask_for_a_token(page: Page, console: Console) -> None:
    at(page, console, "chat")
    page.run(
        "const honest = fetch; window.fetch = (url, init) =>"
        " url === 'metrics/vision' ? Promise.resolve(new Response('', {status: 401})) : honest(url, init);"
        "location.hash = 'status'"
    )
    page.until("document.querySelector('.note .badge.bad')")
    assert "Metrics of vision ask for a token" in page.text() and "--metrics-token-file" in page.text()


def test_ctrl_c_takes_envoy_along(suite: Suite) -> None:
    with serving(suite.home) as console:
        pid = console.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        assert len(children) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int(children[0]), 0)
