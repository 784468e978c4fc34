"""Every form of the console in a real Chromium, before a live suite: answers, errors, what is told of a call."""

import json
import re
import time
import wave
from pathlib import Path

import pytest

from tests.suite.browser import Page
from tests.suite.conftest import Suite
from tests.suite.console.pages import CAT, PICTURES, at, press_button, submit, told
from tests.suite.console.process import Console
from tests.suite.recipes import School

pytestmark = [pytest.mark.models, pytest.mark.slow, pytest.mark.timeout(600)]


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
