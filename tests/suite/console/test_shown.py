"""What each page of the console is beside its form: accessible, fit for a telephone, deaf to hostile texts."""

import json

import pytest

from tests.needs import needs
from tests.suite.browser import Page
from tests.suite.console.pages import CAT, PAGES, PICTURES, at, submit
from tests.suite.console.process import Console
from tests.suite.envoy import ROOT
from tests.suite.test_node_clients import packages

pytestmark = [pytest.mark.models, pytest.mark.slow, pytest.mark.timeout(600)]

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
