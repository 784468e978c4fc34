"""The settings of every program, read by a Python of its own in the environment of `maas up`. Judges none."""

import json
import secrets
import subprocess
import sys
from typing import Any

from cli.doctor import models
from cli.doctor.around import Around
from cli.doctor.finding import Findings, bad, ok

CLASSES = {
    "gateway": "gateway.settings:GatewaySettings",
    **{
        name: f"services.{name}.settings:{name.title()}Settings"
        for name in ("tokenization", "vision", "sequence", "generation")
    },
}
TIMEOUT_S = 60.0


def settings(around: Around) -> Findings:
    """That each program accepts its environment, and the store has what it serves by default."""
    for program, told in read(around).items():
        if told["problem"]:
            yield bad(
                f"settings of {program}", told["problem"], f"correct it; `python -m {module(program)} --help`"
            )
        found = [models.default(around, program, task, name) for task, name in told["defaults"].items()]
        yield from (finding for finding in found if finding)
        if not told["problem"]:
            yield ok(f"settings of {program}", f"accepted; {sum(not one for one in found)} defaults in the store")


def read(around: Around) -> dict[str, Any]:
    """Program → `problem` (empty = none) and `defaults` (task → model)."""
    given = {"MAAS_MESH_KEY": secrets.token_hex(32), **around.environ, "MAAS_STORE": str(around.root)}
    given.pop("MAAS_PORT", None)
    command = [sys.executable, "-m", "services.runtime.settings_check", *CLASSES.values()]
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    return dict(zip(CLASSES, json.loads(done.stdout), strict=True))


def module(program: str) -> str:
    """What Python runs for it."""
    return program if program == "gateway" else f"services.{program}"
