"""What every test of the console does with its pages; pictures are left in .maas/console of the repository."""

import json
from pathlib import Path

import skimage

from tests.suite.browser import Page
from tests.suite.console.process import Console
from tests.suite.envoy import ROOT

CAT = Path(skimage.__file__).parent / "data" / "chelsea.png"
PICTURES = ROOT / ".maas" / "console"
PAGES = ("status", "models", "chat", "pictures", "speech", "tokens", "text", "series", "pipelines")


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
