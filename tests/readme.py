"""Writes the README's generated parts (tree, RPCs, settings) and docs/contracts.md, so that they cannot go stale.

Usage: python -m tests.readme [--check]
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from pydantic_settings import BaseSettings

from gateway.settings import GatewaySettings
from services.generation.settings import GenerationSettings
from services.runtime.settings import ServerSettings, secrets_of
from services.sequence.settings import SequenceSettings
from services.tokenization.settings import TokenizationSettings
from services.vision.settings import VisionSettings
from tests import contracts

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
ROOMS = ("services", "gateway", "cli", "training", "client", "protos/maas")
SERVICES = (TokenizationSettings, VisionSettings, SequenceSettings, GenerationSettings, GatewaySettings)
HIDDEN = ("maas/internal/", "maas/reflection/")


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence."""
    return re.split(r"(?<=[.?])\s", " ".join(text.split()), maxsplit=1)[0]


def says(path: Path) -> str:
    """What a file says of itself: its docstring, or a proto's first comment."""
    if path.suffix == ".py":
        return first_sentence(ast.get_docstring(ast.parse(path.read_text())) or "")
    comments = re.findall(r"^// (.*)$", path.read_text(), re.M)
    return first_sentence(comments[0]) if comments else ""


def tree() -> Iterator[str]:
    """Folders and files, one line each."""
    yield "```"
    for room in ROOMS:
        for folder in sorted({p.parent for s in ("*.py", "*.proto") for p in (ROOT / room).rglob(s)}):
            files = [
                p for p in sorted(folder.iterdir()) if p.suffix in (".py", ".proto") and p.name != "__init__.py"
            ]
            if not files:
                continue
            yield f"{folder.relative_to(ROOT)}/"
            yield from (f"    {path.name:<28} {says(path)}".rstrip() for path in files)
    yield "```"


def comment_of(file: FileDescriptorProto, service: int, method: int) -> str:
    for place in file.source_code_info.location:
        if list(place.path) == [6, service, 2, method]:
            return place.leading_comments
    return ""


def rpcs() -> Iterator[str]:
    """Every RPC: its shape, what it is for, and whether it is served yet."""
    image = FileDescriptorSet.FromString((ROOT / "protos" / "image.binpb").read_bytes())
    yield "| service | RPC | shape | what it does | served |"
    yield "|---|---|---|---|---|"
    for file in image.file:
        if file.name.startswith(HIDDEN):
            continue
        for s, service in enumerate(file.service):
            for m, method in enumerate(service.method):
                comment = comment_of(file, s, m)
                shape = ("stream" if method.client_streaming else "unary") + (
                    " → stream" if method.server_streaming else " → unary"
                )
                later = "not yet (UNIMPLEMENTED)" if "UNIMPLEMENTED until" in comment else "yes"
                what = first_sentence(comment)
                yield f"| `{file.package}.{service.name}` | `{method.name}` | {shape} | {what} | {later} |"


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


PARTS = {"tree": tree, "rpcs": rpcs, "settings": settings}


def rendered(text: str) -> str:
    """The README with its generated parts made anew."""
    for name, part in PARTS.items():
        body = "\n".join(part())
        block = f"<!-- {name} -->\n{body}\n<!-- /{name} -->"
        text = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _, b=block: b, text, flags=re.S)
    return text


def main() -> int:
    made = {README: rendered(README.read_text()), contracts.PAGE: contracts.page()}
    stale = [path.name for path, text in made.items() if not path.is_file() or path.read_text() != text]
    if "--check" in sys.argv:
        print(f"{', '.join(stale)}: stale, run `make readme`" if stale else "README and contracts are current")
        return int(bool(stale))
    for path, text in made.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
