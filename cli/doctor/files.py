"""The files that say who may call what: readable, strict, and nobody else's to change. Shows no secret."""

from collections.abc import Callable
from pathlib import Path

from cli.doctor.around import Around
from cli.doctor.finding import Finding, Findings, bad, ok, warn
from services.runtime.errors import InvalidInput
from services.runtime.identity import keys, policy, tokens

PARSERS: dict[str, Callable[[str], object]] = {
    "MAAS_API_KEYS_FILE": keys.parse,
    "MAAS_POLICY_FILE": policy.parse,
    "MAAS_JWKS_FILE": tokens.parse,
}
GROUP_OR_OTHERS_WRITE = 0o022


def identity(around: Around) -> Findings:
    """Keys, policy and JWKS, of which each is optional."""
    named = {variable: path for variable in PARSERS if (path := around.path(variable))}
    yield from (judged(variable, path) for variable, path in named.items())
    if not named:
        yield ok(
            "identity", "no file is named: callers are not asked who they are, administration is from loopback"
        )
    elif "MAAS_POLICY_FILE" not in named:
        told = "callers are told apart, but whoever is known may call everything"
        yield warn("policy", told, "name a policy in MAAS_POLICY_FILE; see docs/security.md, Who may what")


def judged(variable: str, path: Path) -> Finding:
    """One file, as servers would read it."""
    try:
        found = PARSERS[variable](path.read_text(encoding="utf-8"))
    except (InvalidInput, OSError, UnicodeDecodeError) as error:
        return bad(
            variable, f"{path}: {error}", "correct it: servers refuse to start with it, running ones keep the last"
        )
    if path.stat().st_mode & GROUP_OR_OTHERS_WRITE:
        return bad(variable, f"others may change {path}", f"`chmod go-w {path}`")
    if isinstance(found, policy.Policy) and not any(rule.administration for rule in found.rules):
        return warn(variable, f"{path}: nobody may administer", "give a role `administration = true`")
    return ok(variable, str(path))
