"""Writes the generated parts of the README and of docs (trees, RPCs, settings), so that they cannot go stale.

Usage: python -m tests.readme [--check]
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic_settings import BaseSettings

from gateway.settings import GatewaySettings
from services.generation.settings import GenerationSettings
from services.runtime.settings import ServerSettings, secrets_of
from services.sequence.settings import SequenceSettings
from services.tokenization.settings import TokenizationSettings
from services.vision.settings import VisionSettings
from tests import contracts
from tests.described import first_sentence, services

ROOT = Path(__file__).parent.parent
README, SETTINGS, TREE = ROOT / "README.md", ROOT / "docs" / "settings.md", ROOT / "docs" / "tree.md"
PAGES = (README, SETTINGS, TREE)
ROOMS = ("services", "gateway", "cli", "training", "client", "protos/maas")
SERVICES = (TokenizationSettings, VisionSettings, SequenceSettings, GenerationSettings, GatewaySettings)


def says(path: Path) -> str:
    """What a file says of itself: its docstring, or a proto's first comment."""
    if path.suffix == ".py":
        return first_sentence(ast.get_docstring(ast.parse(path.read_text())) or "")
    comments = re.findall(r"^// (.*)$", path.read_text(), re.M)
    return first_sentence(comments[0]) if comments else ""


def packages() -> Iterator[Path]:
    """Folders that hold sources."""
    for room in ROOMS:
        yield from sorted({p.parent for s in ("*.py", "*.proto") for p in (ROOT / room).rglob(s)})


def rooms() -> Iterator[str]:
    """Packages, one line each, as their `__init__.py` puts it."""
    yield "```"
    for folder in packages():
        if (folder / "__init__.py").is_file():
            yield f"{f'{folder.relative_to(ROOT)}/':<35} {says(folder / '__init__.py')}".rstrip()
    yield "```"


def tree() -> Iterator[str]:
    """Folders and files, one line each."""
    yield "```"
    for folder in packages():
        files = [p for p in sorted(folder.iterdir()) if p.suffix in (".py", ".proto") and p.name != "__init__.py"]
        if not files:
            continue
        yield f"{folder.relative_to(ROOT)}/"
        yield from (f"    {path.name:<28} {says(path)}".rstrip() for path in files)
    yield "```"


def areas() -> Iterator[str]:
    """Every service with its RPCs."""
    yield "| service | what it does | RPCs |"
    yield "|---|---|---|"
    for file, service, comment in services():
        names = " · ".join(f"`{method.name}`" for method in service.method)
        yield f"| `{file.package}.{service.name}` | {first_sentence(comment)} | {names} |"


def settings_rows(cls: type[BaseSettings], skip: set[str]) -> Iterator[str]:
    for name, field in cls.model_fields.items():
        if name in skip:
            continue
        shown = "unset" if field.default in (None, "") else f"`{field.default}`"
        shown = "by machine" if field.default_factory else shown
        flag = "none" if name in secrets_of(cls) else f"`--{name.replace('_', '-')}`"
        yield f"| `MAAS_{name.upper()}` | {flag} | {shown} | {field.description or ''} |"


def settings() -> Iterator[str]:
    """The floor's settings, then what each service adds or changes."""
    head = ["| variable | flag | default | meaning |", "|---|---|---|---|"]
    yield from ["Every server:", "", *head, *settings_rows(ServerSettings, set())]
    common = ServerSettings.model_fields
    for cls in SERVICES:
        same = {n for n, f in cls.model_fields.items() if n in common and common[n].default == f.default}
        yield from ["", f"`{cls.__name__.removesuffix('Settings').lower()}` besides:", "", *head]
        yield from settings_rows(cls, same)


PARTS = {"rooms": rooms, "areas": areas, "tree": tree, "settings": settings}


def rendered(text: str) -> str:
    """A page with its generated parts made anew."""
    for name, part in PARTS.items():
        if f"<!-- {name} -->" not in text:
            continue
        block = "\n".join((f"<!-- {name} -->", *part(), f"<!-- /{name} -->"))
        text = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _, b=block: b, text, flags=re.S)
    return text


def made() -> dict[Path, str]:
    """Each page with generated parts, as it must be."""
    return {page: rendered(page.read_text()) for page in PAGES} | {contracts.PAGE: contracts.page()}


def main() -> int:
    stale = {path: text for path, text in made().items() if not path.is_file() or path.read_text() != text}
    if "--check" in sys.argv:
        names = ", ".join(path.name for path in stale)
        print(f"{names}: stale, run `make readme`" if stale else "README and docs are current")
        return int(bool(stale))
    for path, text in stale.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
