"""What the pages name is there: files they link to, targets of make, commands of maas and their options."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from cli.__main__ import app
from tests import readme

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "deploy/**/*.md", "tests/bench/*.md", "console/*.md", "client/**/*.md")
    for path in ROOT.glob(pattern)
    if "node_modules" not in path.parts
)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#([^)\s]+))?\)|!\[[^\]]*\]\(([^)\s]+)\)")
TARGET = re.compile(r"(?:`|^\s*|\$ )make ([a-z][a-z-]*)", re.M)
COMMAND = re.compile(r"(?:`|^\s*|\$ |bin/|&& |no-python )maas ([a-z][^`|;&#\n]*)", re.M)


def code(text: str) -> str:
    """The spans and blocks of code; prose may say `make` as it likes."""
    blocks = re.findall(r"^```.*?^```|^ {4}.*?$", text, re.M | re.S)
    return "\n".join([*blocks, *re.findall(r"`[^`\n]+`", text)])


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    page = ROOT / name
    links = [match[1] or match[3] for match in LINK.finditer(page.read_text())]
    gone = [link for link in links if ":" not in link and not (page.parent / link).exists()]
    assert not gone, f"{name} links to {gone}"


def test_every_make_target_exists() -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {(page.name, target) for page in PAGES for target in TARGET.findall(code(page.read_text()))}
    assert len(named) > 5
    assert not {one for one in named if one[1] not in known}


def wrong(line: str) -> Iterator[str]:
    """What of `maas LINE` the command line does not know: a command, an option of it or of its groups."""
    command: Any = typer.main.get_command(app)
    words = [word for word in line.split() if not word.startswith("-")]
    asked = {word.partition("=")[0] for word in line.split() if re.match(r"--[a-z]", word)} - {"--help"}
    known: set[str] = set()
    while words and hasattr(command, "commands") and re.fullmatch(r"[a-z-]+", words[0]):
        known |= {option for one in command.params for option in one.opts + one.secondary_opts}
        name = words.pop(0)
        if name not in command.commands:
            yield f"maas {line}: no {name!r}"
            return
        command = command.commands[name]
    known |= {option for one in command.params for option in one.opts + one.secondary_opts}
    yield from (f"maas {line}: no {option}" for option in sorted(asked - known))


@pytest.mark.parametrize("name", NAMES)
def test_every_maas_command_exists_with_its_options(name: str) -> None:
    lines = COMMAND.findall(code((ROOT / name).read_text()))
    found = [told for line in lines for told in wrong(line)]
    assert not found, "\n".join(found)


def test_what_is_not_there_is_found() -> None:
    assert list(wrong("modles list")) and list(wrong("models shw x")) and list(wrong("models list --jsno"))
    assert not list(wrong("models list --json")) and not list(wrong("call --json tokenize x"))
    assert [match[1] for match in LINK.finditer("see [it](a/b.md#c)")] == ["a/b.md"]
    assert COMMAND.findall(code("`maas up --tls`\n```\n$ maas down\n```")) == ["down", "up --tls"]


def places(page: Path) -> set[str]:
    """What may follow `#` in a link to the page: its headings, as they are written in addresses."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}


def lost(page: Path, text: str) -> Iterator[str]:
    """Links of a text to places that its page, or the page they lead to, does not have."""
    for path, place in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", text):
        there = page.parent / path if path else page
        if ":" not in path and (not there.is_file() or place not in places(there)):
            yield f"{path}#{place}"


@pytest.mark.parametrize("name", NAMES)
def test_every_place_that_a_page_links_to_is_there(name: str) -> None:
    page = ROOT / name
    gone = list(lost(page, page.read_text()))
    assert not gone, f"{name} links to {gone}"


def test_a_place_that_is_not_there_is_found() -> None:
    text = "[a](#pages) [b](#nowhere) [c](docs/gateway.md#overload) [d](docs/gateway.md#pages)"
    assert list(lost(ROOT / "README.md", text)) == ["#nowhere", "docs/gateway.md#pages"]


def test_the_readme_names_every_page() -> None:
    named = {match[1] for match in LINK.finditer((ROOT / "README.md").read_text())}
    assert not set(NAMES) - named - {"README.md"}


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_that_a_page_names_exists(name: str) -> None:
    text = (ROOT / name).read_text()
    known = set(re.findall(r"^\| `(MAAS_\w+)`", readme.SETTINGS.read_text(), re.M))
    asked = set(re.findall(r"\b(MAAS_[A-Z0-9_]*[A-Z0-9])\b", text)) - OUTSIDE
    assert len(known) > 50 and not asked - known


# Read by the command line, the cards of images or compilers, not by a server.
OUTSIDE = {"MAAS_CERTS", "MAAS_API_KEY", "MAAS_ADDRESS", "MAAS_HOME", "MAAS_CACHE_DIR"}


def test_every_alert_is_told_of_and_no_other() -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    told = re.findall(r"`(Maas[A-Z]\w+)`", (ROOT / "docs" / "operations.md").read_text())
    assert alerts == set(told)
