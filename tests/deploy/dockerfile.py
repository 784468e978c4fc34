"""deploy/Dockerfile, read. Knows the few instructions that it uses, and runs none."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "deploy" / "Dockerfile"


class Step(NamedTuple):
    """One instruction: RUN's command, COPY's words, and so on."""

    kind: str
    text: str

    @property
    def words(self) -> list[str]:
        """Of the exec form or of the plain one."""
        return json.loads(self.text) if self.text.startswith("[") else self.text.split()


@dataclass
class Stage:
    """From one FROM to the next."""

    base: str
    name: str
    steps: list[Step] = field(default_factory=list)

    def all(self, kind: str) -> list[Step]:
        return [step for step in self.steps if step.kind == kind]


def instructions(text: str) -> Iterator[Step]:
    told = re.sub(r"^\s*#.*\n", "", text, flags=re.M)
    for line in re.sub(r"\\\n\s*", " ", told).splitlines():
        if line.strip():
            kind, _, rest = line.strip().partition(" ")
            yield Step(kind, rest.strip())


def stages(text: str) -> list[Stage]:
    found: list[Stage] = []
    for step in instructions(text):
        if step.kind == "FROM":
            base, _, name = step.text.partition(" AS ")
            found.append(Stage(base, name))
        elif found:
            found[-1].steps.append(step)
    return found


def environment(step: Step, before: Mapping[str, str]) -> dict[str, str]:
    """What an ENV sets; it sees what was set before it."""
    pairs = re.findall(r"(\w+)=(\S+)", step.text)
    return {name: Template(value).safe_substitute(before) for name, value in pairs}
