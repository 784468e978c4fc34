"""The console in a real Chromium, before a live suite: every form, errors, keys, hostile texts, accessibility.

Pictures of the pages are left in .maas/console of the repository.
"""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import skimage

from cli.program import METRICS_OFFSET
from services.runtime.metrics import Metrics
from services.runtime.telemetry.port import opened
from tests.needs import needs
from tests.speech import RATE, say
from tests.suite.browser import Page, chromium
from tests.suite.conftest import Suite, free_ports
from tests.suite.envoy import ROOT
from tests.suite.recipes import School
from tests.suite.test_node_clients import packages

pytestmark = [pytest.mark.models, pytest.mark.slow, pytest.mark.timeout(600)]

CAT = Path(skimage.__file__).parent / "data" / "chelsea.png"
PICTURES = ROOT / ".maas" / "console"
PAGES = ("status", "models", "chat", "pictures", "speech", "tokens", "text", "series", "pipelines")
HOSTILE = '<img src=x onerror="window.owned=1"><script>window.owned=1</script>\'"&amp;'
# Every text of every answer gets a hostile end, but for the words that decide what is shown.
POISON = f"""
window.honest = window.fetch;
const kept = ["state", "tasks", "default_for", "service", "type", "name_of_step"];
const whole = (name, value) => kept.includes(name) || /^-?\\d+$/.test(value);
const poisoned = (value, name) =>
  typeof value === "string" ? (whole(name, value) ? value : value + {json.dumps(HOSTILE)}) :
  Array.isArray(value) ? value.map((one) => poisoned(one, name)) :
  !value || typeof value !== "object" ? value :
  Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, poisoned(inner, key)]));
window.fetch = async (...request) => {{
  const response = await window.honest(...request);
  if (!String(request[0]).startsWith("/v1/")) return response;
  const messages = (await response.text()).split("\\n").filter(Boolean);
  const lines = messages.map((line) => JSON.stringify(poisoned(JSON.parse(line))));
  return new Response(lines.join("\\n"), {{ status: response.status, headers: response.headers }});
}};
"""


@dataclass
class Console:
    """`maas console` as a process, and where its page is."""

    process: "subprocess.Popen[str]"
    port: int
    said: str = ""  # after its address, once it has ended

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def status_of(self, path: str, headers: dict[str, str], method: str = "POST") -> int:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        link.request(method, path, b'{"texts": ["a"]}' if method == "POST" else None, headers)
        found = link.getresponse().status
        link.close()
        return found


@contextmanager
def serving(home: Path, *arguments: str) -> Iterator[Console]:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "cli", "console", "--home", str(home), "--port", str(port), *arguments]
    process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert f"http://localhost:{port}" in line, line + process.stdout.read()
        console = Console(process, port)
        try:
            yield console
        finally:
            process.send_signal(signal.SIGINT)
        console.said = process.stdout.read()
        assert "Traceback" not in console.said
        assert process.wait(20) == 0


@pytest.fixture(scope="module")
def console(suite: Suite) -> Iterator[Console]:
    with serving(suite.home) as found:
        yield found


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of silence, a sentence, and silence again."""
    silence = np.zeros(RATE, np.float32)
    samples = np.concatenate([silence, say("The quick brown fox jumps over the lazy dog."), silence])
    path = tmp_path_factory.mktemp("sound") / "fox.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32000).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def tab(console: Console, sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A tab whose microphone hears the sound file."""
    needs("chromium")
    heard = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
    with chromium(
        tmp_path_factory.mktemp("chromium"), *heard, f"--use-file-for-fake-audio-capture={sound}"
    ) as browser:
        yield browser.page()


@pytest.fixture
def page(tab: Page, console: Console) -> Iterator[Page]:
    """The tab at its start; nothing may have gone wrong in it that the test did not take out of `complaints`."""
    tab.size(1200, 800)
    tab.dark(False)
    tab.complaints.clear()
    yield tab
    assert tab.complaints == []


def at(page: Page, console: Console, name: str) -> None:
    page.go("about:blank")
    page.go(f"{console.url}/#{name}")
    page.until("document.querySelector('h2')")


def submit(page: Page, number: int = 0) -> None:
    """Once the choices of models have been filled."""
    page.until(
        "[...document.querySelectorAll('select[name=model]')].every((one) => one.textContent !== 'default')"
    )
    page.run(f"document.querySelectorAll('main form')[{number}].requestSubmit()")


def press_button(page: Page, text: str) -> None:
    named = f"(one) => one.textContent === {json.dumps(text)}"
    page.run(f"[...document.querySelectorAll('main button')].find({named}).click()")


def told(page: Page, number: int = 0) -> dict[str, str]:
    """What stands under an answer."""
    page.until(f"document.querySelectorAll('dl.told').length > {number}")
    found: dict[str, str] = page.run(
        f"Object.fromEntries([...document.querySelectorAll('dl.told')[{number}].children]"
        ".map((one) => [one.children[0].textContent, one.children[1].textContent]))"
    )
    return found


def test_status_is_live(page: Page, console: Console, suite: Suite) -> None:
    at(page, console, "status")
    page.until("document.querySelectorAll('tbody tr').length > 8")
    badges = "document.querySelectorAll('table')[0].querySelectorAll('.badge')"
    states = page.run(f"[...{badges}].map((one) => one.textContent)")
    assert states == ["SERVING"] * 4
    assert {"efficientnet-lite0/1", "smollm2-135m-instruct/1"} <= set(re.findall(r"\S+/\d+", page.text()))
    page.run(  # some work while it looks on
        "window.over = false; window.work = (async () => { for (let i = 0; !over; i++) "
        "await fetch('/v1/generation:generate', {method: 'POST', "
        "body: JSON.stringify({text: `${i % 40}`, stopping: {max_tokens: 4 + (i % 5)}})}) })(); 1"
    )
    seen = "[...document.querySelectorAll('.chart svg')].map((one) => one.ariaLabel)"
    number = "/[1-9]/.test(one.replace(/p[59][09]/g, ''))"
    for title in ("Calls: calls", "Latency: p50", "Tokens generated: tokens"):
        page.until(f"{seen}.some((one) => one.startsWith({json.dumps(title)}) && {number})")
    page.until("document.querySelector('.line').points.length > 4")
    page.picture(PICTURES / "status.png")
    page.run("over = true, work")


def test_a_models_card(page: Page, console: Console) -> None:
    at(page, console, "models")
    page.until("document.querySelectorAll('.cards li').length > 5")
    page.run(
        "[...document.querySelectorAll('.cards a')].find((a) => a.textContent.startsWith('mnist-cnn')).click()"
    )
    page.until("document.querySelector('.facts')")
    shown = page.text()
    assert "mnist-cnn/1" in shown and "vision.classify" in shown and "sha256:" in shown
    assert page.run("document.querySelectorAll('.classes li').length") == 10
    page.picture(PICTURES / "model.png")
    page.click("main a.button")
    page.until("document.querySelector('select[name=model]')?.value.startsWith('mnist-cnn')")
    assert page.text("h2") == "Pictures"


def test_chat_streams_and_stops(page: Page, console: Console, suite: Suite) -> None:
    at(page, console, "chat")
    page.run(
        "window.lengths = new Set();"
        "new MutationObserver(() => lengths.add(document.querySelector('.assistant .said')"
        "?.textContent.length)).observe(document.querySelector('.talk'), {subtree: true, childList: true})"
    )
    page.run("document.querySelector('textarea').focus()")
    page.fill("input[name=seed]", str(time.time_ns() % 2**32))  # asked by nobody before: it comes token by token
    page.type("What is the capital of France?")
    page.press("Enter")
    assert told(page)["model"] == "smollm2-135m-instruct/1"
    assert page.text(".assistant .said") == "The capital of France is Paris."
    assert page.run("lengths.size") > 3, "it comes in parts"
    page.picture(PICTURES / "chat.png")
    page.fill("input[name=max_tokens]", "2000")
    page.fill("input[name=temperature]", "1")
    page.fill("textarea", "Count from one to a thousand, in words.")
    page.press("Enter")
    page.until("document.querySelectorAll('.assistant .said')[1]?.textContent.length > 5")
    press_button(page, "Stop")
    page.until("document.querySelector('.assistant:last-child .badge')?.textContent === 'stopped'", 5)
    assert page.run("document.querySelector('main form button').disabled") is False
    at(page, console, "status")
    page.until("document.querySelectorAll('table')[1]?.querySelectorAll('tr')[4].cells[3].textContent === '0'", 20)


def test_an_error_says_field_and_fix(page: Page, console: Console) -> None:
    at(page, console, "chat")
    page.fill("input[name=temperature]", "1000")
    page.fill("textarea", "hi")
    submit(page)
    page.until("document.querySelector('.problem dl')")
    shown = page.text(".problem")
    assert "INVALID_ARGUMENT" in shown and "INVALID_FIELD" in shown
    assert page.run("document.querySelector('.problem dt').textContent") == "sampling.temperature"
    assert "at most 100" in page.text(".problem dd")
    assert len(told(page)["trace"]) == 32
    assert "400" in page.complaints.pop()


def test_a_picture_its_labels_and_what_decided(page: Page, console: Console) -> None:
    at(page, console, "pictures")
    page.choose_file("input[type=file]", CAT)
    page.until("document.querySelectorAll('.bars .meter').length === 10")
    assert page.text(".bars .name") == "a cat having a striped coat"
    assert told(page)["model"].startswith("efficientnet-lite0/")
    press_button(page, "Classify again")
    page.until("/^hit/.test(document.querySelector('dl.told .badge').textContent)")
    page.fill("select[name=method]", "EXPLAIN_METHOD_GRAD_CAM")
    press_button(page, "Explain the best label")
    page.until("document.querySelector('img.heat')?.naturalWidth === 224", 120)
    assert "Red spoke for “a cat having a striped coat”" in page.text()
    page.picture(PICTURES / "pictures.png")


def shares(page: Page) -> tuple[float, int, int]:
    """Seconds heard, percent of them speech, steps."""
    seconds, share, steps = re.findall(r"([\d.]+) s, (\d+) % of it speech · (\d+) steps", page.text())[-1]
    return float(seconds), int(share), int(steps)


def test_speech_from_a_file(page: Page, console: Console, sound: Path) -> None:
    at(page, console, "speech")
    page.choose_file("input[type=file]", sound)
    page.until("document.querySelector('dl.told') && !document.querySelector('button.first').disabled", 120)
    seconds, share, steps = shares(page)
    with wave.open(str(sound)) as file:
        assert steps == file.getnframes() // 512
    assert 35 < share < 80, "a sentence between two seconds of silence"
    page.picture(PICTURES / "speech.png")


def test_speech_from_the_microphone(page: Page, console: Console) -> None:
    at(page, console, "speech")
    press_button(page, "Speak")
    page.until("Number(/of it speech · (\\d+) steps/.exec(document.body.innerText)?.[1]) > 90")
    press_button(page, "Stop")
    page.until("!document.querySelector('button.first').disabled", 20)
    assert shares(page)[1] > 10


def test_tokens_are_coloured(page: Page, console: Console) -> None:
    at(page, console, "tokens")
    page.fill("textarea", "Hello world! 🦊")
    submit(page)
    assert told(page)["cache"]
    marks = page.run(
        "[...document.querySelectorAll('mark')].map((one) => [one.title, one.textContent, one.className])"
    )
    assert [mark[1] for mark in marks[:3]] == ["Hello", " world", "!"]
    assert marks[0][0].startswith("19556 ")
    assert len({mark[2] for mark in marks[:3]}) == 3
    assert "".join(mark[1] for mark in marks if mark[2] != "special") == "Hello world! 🦊"
    page.picture(PICTURES / "tokens.png")


def test_texts_are_pronounced_and_compared(page: Page, console: Console) -> None:
    at(page, console, "text")
    submit(page, 0)
    submit(page, 1)
    page.until("document.querySelectorAll('dl.told').length === 2")
    assert "K AH0 M P Y UW1 T ER0" in page.text()
    cells = page.run("[...document.querySelectorAll('.heatcell')].map((one) => Number(one.textContent))")
    assert cells[0] == cells[4] == cells[8] == 1
    assert cells[1] == cells[3] > cells[2], "two cats are more alike than a cat and shares"


def test_own_models_classify_explain_and_forecast(page: Page, console: Console, school: School) -> None:
    at(page, console, "text")
    page.click("input[name=reasons]")
    submit(page, 2)
    page.until("document.querySelector('.word')", 120)
    assert set(page.run("[...document.querySelectorAll('.bars .name')].map((one) => one.textContent)")) == {
        "ham",
        "spam",
    }
    page.picture(PICTURES / "text.png")
    at(page, console, "series")
    submit(page, 0)
    page.until("document.querySelector('.plot .band')")
    assert page.run("document.querySelectorAll('.line.forecast')[0].points.length") == 12, "today and eleven years"
    page.picture(PICTURES / "series.png")
    page.fill("textarea[name=whole]", "\n".join(["1 2 3 4 5 6"] * 30))
    submit(page, 1)
    page.until("document.querySelectorAll('.bars .meter').length > 1")
    page.fill("textarea[name=whole]", "1 2 3\n4 5 6")
    submit(page, 1)
    page.until("document.querySelector('.problem')")
    assert "series.values[0]" in page.text(".problem")
    assert "400" in page.complaints.pop()


def test_a_pipeline_tells_its_steps(page: Page, console: Console) -> None:
    at(page, console, "pipelines")
    page.until("document.querySelector('form[data-name=describe]')")
    page.choose_file("input[type=file]", CAT)
    submit(page)
    page.until("document.querySelectorAll('.step').length === 2 && document.querySelector('dl.told')", 120)
    assert "a cat having a striped coat" in page.text(".step .said")
    page.picture(PICTURES / "pipelines.png")


def test_it_is_used_by_keys_alone(page: Page, console: Console) -> None:
    at(page, console, "status")
    page.run("document.body.tabIndex = -1, document.body.focus()")
    page.press("Tab")
    assert page.run("document.activeElement.className") == "skip"
    for _ in range(3):
        page.press("Tab")
    assert page.run("document.activeElement.textContent") == "Chat"
    page.press("Enter")
    page.until("document.querySelector('h2').textContent === 'Chat'")
    assert page.run("document.activeElement.tagName") == "MAIN"
    assert page.run("document.querySelector('nav a[aria-current]').textContent") == "Chat"


def write(page: Page, text: str) -> None:
    """Over all that is in the field which has the focus."""
    page.send("Input.dispatchKeyEvent", type="rawKeyDown", key="a", modifiers=2, commands=["selectAll"])
    page.type(text)


def test_a_chat_by_keys_alone(page: Page, console: Console) -> None:
    at(page, console, "chat")
    page.tab_to("summary")
    page.press("Space")
    page.tab_to("input[name=max_tokens]")
    write(page, "64")
    page.tab_to("input[name=seed]")
    write(page, str(time.time_ns() % 2**32))
    page.tab_to("textarea[name=message]")
    page.type("What is the capital of France?")
    page.tab_to("main form button")
    page.press("Space")
    assert told(page)["model"] == "smollm2-135m-instruct/1"
    assert page.text(".assistant .said") == "The capital of France is Paris."
    page.tab_to("button[type=button]")
    assert page.run("document.activeElement.textContent") == "New conversation"
    page.press("Enter")
    page.until("!document.querySelector('.talk').children.length")
    assert page.run("document.activeElement.name") == "message"


def test_a_picture_by_keys_alone(page: Page, console: Console) -> None:
    at(page, console, "pictures")
    page.tab_to("input[type=file]")
    page.choose_by_key("Space", CAT)
    page.until("document.querySelectorAll('.bars .meter').length === 10")
    page.tab_to("button.first")
    page.press("Enter")
    page.until("document.querySelector('img.heat')?.naturalWidth === 224", 120)
    page.tab_to("main summary")
    page.press("Enter")
    page.tab_to("details[open] button")
    assert page.run("document.activeElement.textContent") == "Why a cat having a striped coat?"


def test_tokens_by_keys_alone(page: Page, console: Console) -> None:
    at(page, console, "tokens")
    page.tab_to("textarea")
    write(page, "By keys alone")
    page.tab_to("input[name=special]")
    page.press("Space")
    assert page.run("document.activeElement.checked") is False
    page.tab_to("main form button")
    page.press("Enter")
    told(page)
    assert page.text("p.tokens") == "By keys alone"


@pytest.mark.parametrize("name", PAGES)
def test_keys_lead_to_every_control(page: Page, console: Console, name: str) -> None:
    at(page, console, name)
    page.until("document.querySelector('dl.told, .drop, form, .facts')")
    page.run("for (const one of document.querySelectorAll('main details')) one.open = true")
    page.run(
        "window.missed = new Set([...document.querySelectorAll('main :is(input, select, textarea, button, a,"
        " summary)')].filter((one) => !one.disabled && one.checkVisibility()))"
    )
    for _ in range(page.run("missed.size") + 40):
        page.press("Tab")
        page.run("missed.delete(document.activeElement)")
    assert page.run("[...missed].filter((one) => one.isConnected).map((one) => one.outerHTML)") == []


def test_no_text_becomes_markup(page: Page, console: Console) -> None:
    added = page.send("Page.addScriptToEvaluateOnNewDocument", source=POISON)["identifier"]
    try:
        for name in ("models", "models/mnist-cnn", "status", "pipelines", "tokens", "chat", "pictures"):
            at(page, console, name)
            if name == "tokens":
                submit(page)
            elif name == "chat":
                page.fill("textarea", "hi")
                page.run("document.querySelector('main form').requestSubmit()")
            elif name == "pictures":
                page.choose_file("input[type=file]", CAT)
            page.until("document.querySelector('main').innerText.includes('<img src=x')")
            assert page.run("window.owned") is None
            assert page.run("document.querySelectorAll('main script, main [onerror]').length") == 0
    finally:
        page.send("Page.removeScriptToEvaluateOnNewDocument", identifier=added)


@pytest.mark.parametrize("dark", [False, True])
def test_it_is_accessible(page: Page, console: Console, dark: bool) -> None:
    needs("npm")
    axe = (packages(ROOT / "tests" / "interop" / "console") / "axe-core" / "axe.min.js").read_text()
    page.dark(dark)
    for name in (*PAGES, "models/mnist-cnn"):
        at(page, console, name)
        if name in ("tokens", "text"):
            submit(page)
        page.until("document.querySelector('dl.told, .drop, form')")
        page.run(axe)
        told = "(one) => [one.id, one.help, ...one.nodes.map((node) => node.html)]"
        found = page.run(f"axe.run().then(({{violations}}) => violations.map({told}))")
        assert found == [], name
        page.picture(PICTURES / f"{name.replace('/', '-')}-{'dark' if dark else 'light'}.png")


def test_it_fits_a_telephone(page: Page, console: Console) -> None:
    page.size(360, 740)
    for name in PAGES:
        at(page, console, name)
        page.until("document.querySelector('dl.told, .drop, form')")
        assert page.run("document.documentElement.scrollWidth") <= 360, name
        page.picture(PICTURES / f"{name}-small.png")


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


TOKEN = "a token that is long enough"


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
