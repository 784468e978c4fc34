"""The console by keys alone, in a real Chromium."""

import time

import pytest

from tests.suite.browser import Page
from tests.suite.console.pages import CAT, PAGES, at, told
from tests.suite.console.process import Console

pytestmark = [pytest.mark.models, pytest.mark.slow, pytest.mark.timeout(600)]


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
