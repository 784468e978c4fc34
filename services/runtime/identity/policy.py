"""Who may call what, by the rules of a file: what no rule allows is denied. Pure: text in, rights out.

[[allow]]                                   # all that is named must fit; what is not named fits all
roles = ["reader"]                          # the caller has one of them
tenants = ["acme"]                          # the caller is of one of them
methods = ["maas.vision.v1.VisionService/*"]
models = ["efficientnet-*", ""]             # as the call names it; "" = it names none

[[allow]]
roles = ["operator"]
administration = true                       # and the calls that change what is served
priorities = ["critical"]                   # calls of these methods may be of this class
"""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache
from typing import Any

from services.runtime.errors import Denied, InvalidInput
from services.runtime.identity.caller import ANYBODY, Caller, proper_name

ADMINISTRATIVE = frozenset(
    {
        "/maas.admin.v1.AdminService/GetLogLevel",
        "/maas.admin.v1.AdminService/SetLogLevel",
        "/maas.model.v1.ModelService/LoadModel",
        "/maas.model.v1.ModelService/UnloadModel",
        "/maas.model.v1.ModelService/SetLabel",
        "/maas.gateway.v1.GatewayService/FlushCache",
        "/inference.GRPCInferenceService/RepositoryModelLoad",
        "/inference.GRPCInferenceService/RepositoryModelUnload",
    }
)
# How gRPC writes the peers that are on this machine.
LOCAL = ("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:")
CRITICAL = "critical"
# Classes of calls above the usual one, as callers name them; the others are everybody's.
GRANTED = frozenset({CRITICAL})
WORDS = frozenset({"roles", "tenants", "methods", "models", "administration", "priorities"})
REMEMBERED = 4096

Pattern = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Rule:
    """One permission; None = whatever it is."""

    methods: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    roles: frozenset[str] | None = None
    tenants: frozenset[str] | None = None
    administration: bool = False
    # Unlike the others, none unless named.
    priorities: frozenset[str] = frozenset()

    def fits(self, caller: Caller) -> bool:
        known = self.roles is None or not self.roles.isdisjoint(caller.roles)
        return known and (self.tenants is None or caller.tenant in self.tenants)

    def covers(self, method: str) -> bool:
        """`method`: `/package.Service/Method`."""
        if method in ADMINISTRATIVE and not self.administration:
            return False
        return self.methods is None or any(_pattern(one)(method[1:]) for one in self.methods)

    def takes(self, model: str) -> bool:
        return self.models is None or any(_pattern(one)(model) for one in self.models)


class Rights:
    """What one caller may. `rules`: those that fit it; None = there is no policy."""

    def __init__(self, caller: Caller, rules: Sequence[Rule] | None) -> None:
        self._caller, self._rules = caller, rules
        self._by_method: dict[str, tuple[Rule, ...]] = {}

    def check_method(self, method: str, peer: str) -> None:
        """Raises Denied unless some model may be asked by `method`."""
        if self._rules is not None:
            if not self._covering(method, self._rules):
                why = f"{self._name} may not call {method[1:]}; ask for a role that may"
                raise Denied(why, reason="METHOD_DENIED")
        elif method in ADMINISTRATIVE and not peer.startswith(LOCAL):
            raise Denied(f"administrative calls are taken from loopback only; this one came from {peer}")

    def check_administrator(self, what: str, peer: str) -> None:
        """Raises Denied unless the caller may administer: by a rule, or without a policy from this machine."""
        allowed = (
            peer.startswith(LOCAL) if self._rules is None else any(rule.administration for rule in self._rules)
        )
        if not allowed:
            raise Denied(f"{self._name} may not {what}: that is for administrators", reason="METHOD_DENIED")

    def grants(self, method: str, priority: str) -> bool:
        """Whether calls of `method` may be of a class above the usual one."""
        rules = self._rules
        return rules is None or any(priority in rule.priorities for rule in self._covering(method, rules))

    def looks_at_models(self, method: str) -> bool:
        """Whether it depends on the model that a call names."""
        if self._rules is None:
            return False
        return all(rule.models is not None for rule in self._covering(method, self._rules))

    def check_model(self, method: str, model: str) -> None:
        """Raises Denied unless `model` may be asked by `method`."""
        rules = self._covering(method, self._rules or ())
        if self._rules is not None and not any(rule.takes(model) for rule in rules):
            allowed = ", ".join(sorted({repr(one) for rule in rules for one in rule.models or ()}))
            raise Denied(
                f"{self._name} may not ask {model or 'the default model'!r} by {method[1:]}; allowed: {allowed}",
                reason="MODEL_DENIED",
            )

    @property
    def _name(self) -> str:
        return self._caller.name or self._caller.tenant or "who shows no credentials"

    def _covering(self, method: str, rules: Sequence[Rule]) -> tuple[Rule, ...]:
        found = self._by_method.get(method)
        if found is None:
            found = self._by_method[method] = tuple(rule for rule in rules if rule.covers(method))
        return found


# Without a policy: everything, and administration from this machine alone.
UNLIMITED = Rights(ANYBODY, None)
# Of a call that another server of ours let in.
TRUSTED = Rights(ANYBODY, [Rule(administration=True, priorities=GRANTED)])


@dataclass(slots=True)
class Policy:
    """The rules of a file."""

    rules: Sequence[Rule]
    _known: dict[Caller, Rights] = field(default_factory=dict)

    def of(self, caller: Caller) -> Rights:
        """What `caller` may; whom another server of ours let in was judged there."""
        if caller.vouched:
            return TRUSTED
        found = self._known.get(caller)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = self._known[caller] = Rights(caller, [rule for rule in self.rules if rule.fits(caller)])
        return found


def parse(text: str) -> Policy:
    """Raises InvalidInput naming the entry."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput("policy", f"is no TOML: {error}") from None
    entries = tables.pop("allow", [])
    if tables or not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidInput("policy", "must consist of [[allow]] entries alone")
    return Policy([_rule(f"allow[{place}]", entry) for place, entry in enumerate(entries)])


def _rule(at: str, entry: Mapping[str, Any]) -> Rule:
    unknown = sorted(set(entry) - WORDS)
    if unknown:
        raise InvalidInput(at, f"{unknown[0]!r} is not known; there are {', '.join(sorted(WORDS))}")
    administration = entry.get("administration", False)
    if not isinstance(administration, bool):
        raise InvalidInput(f"{at}.administration", "must be true or false")
    roles, tenants = (_texts(at, name, entry) for name in ("roles", "tenants"))
    priorities = frozenset(_texts(at, "priorities", entry) or ())
    if not priorities <= GRANTED:
        raise InvalidInput(f"{at}.priorities", f"only {', '.join(GRANTED)} is granted; the others are everybody's")
    return Rule(
        _texts(at, "methods", entry),
        _texts(at, "models", entry),
        None if roles is None else frozenset(roles),
        None if tenants is None else frozenset(tenants),
        administration,
        priorities,
    )


def _texts(at: str, name: str, entry: Mapping[str, Any]) -> tuple[str, ...] | None:
    found = entry.get(name)
    if found is None:
        return None
    if not isinstance(found, list) or not found:
        raise InvalidInput(f"{at}.{name}", "must be a list of texts, and not an empty one; leave it out for all")
    return tuple(one if name == "models" and one == "" else proper_name(f"{at}.{name}", one) for one in found)


@lru_cache(maxsize=1024)
def _pattern(glob: str) -> Pattern:
    return re.compile(translate(glob)).fullmatch
