"""What a check found: well, doubtful or broken, and the fix. Knows no check."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `fix`: what to do or to type; empty where nothing is to be done."""

    name: str
    state: State
    found: str
    fix: str = ""


Findings = Iterable[Finding]


def ok(name: str, found: str) -> Finding:
    """As it should be."""
    return Finding(name, "ok", found)


def warn(name: str, found: str, fix: str) -> Finding:
    """The suite runs, but not as well or as safely as it could."""
    return Finding(name, "warn", found, fix)


def bad(name: str, found: str, fix: str) -> Finding:
    """The suite will not start, or will refuse calls."""
    return Finding(name, "bad", found, fix)


def guarded(name: str, check: Callable[[], Findings]) -> list[Finding]:
    """What `check` finds; a check that itself breaks is a finding too, and the others go on."""
    try:
        return list(check())
    except Exception as error:
        fix = "run `maas doctor` as the user who runs the suite"
        return [warn(name, f"could not be looked at: {type(error).__name__}: {error}", fix)]
