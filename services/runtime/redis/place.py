"""A Redis URL → which servers, how they are met, and as whom. Knows no connection.

redis-py reads the ordinary forms; redis+sentinel:// and redis+cluster:// are ours, with a comma list of hosts.
"""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlencode

from redis.asyncio.connection import SSLConnection, parse_url
from redis.exceptions import RedisError

FORM = (
    "redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], rediss:// likewise, unix://PATH,"
    " redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT],…/MASTER[/DB] or redis+cluster://[[USER]:PASSWORD@]HOST[:PORT],…"
)
_ORDINARY = re.compile(r"(rediss?|unix)://.+")
_MANY = re.compile(
    r"(?P<scheme>rediss?)\+(?P<kind>sentinel|cluster)://(?:(?P<who>[^@/?]*)@)?(?P<hosts>[^@/?]+)"
    r"(?P<path>/[^?]*)?(?:\?(?P<query>.*))?"
)
PORT, SENTINEL_PORT = 6379, 26379
_TLS = "ssl_"


class Address(NamedTuple):
    """host and port, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""


@dataclass(frozen=True, slots=True)
class Login:
    """As whom, and to which of the numbered databases."""

    username: str = ""
    password: str = field(default="", repr=False)
    db: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """`kind`: alone, sentinel or cluster. `addresses`: of the server, of the sentinels, of some of the nodes."""

    kind: str
    addresses: tuple[Address, ...]
    login: Login
    tls: ssl.SSLContext | None = None
    # Of sentinels alone: the name of the master that they watch, and how they are met.
    master: str = ""
    sentinel: Login = Login()


def place_of(url: str) -> Place:
    """Raises ValueError, which never repeats the URL, for what is no form of FORM; OSError for a certificate."""
    try:
        many = _MANY.fullmatch(url)
        if many is not None:
            return _many(many)
        if _ORDINARY.fullmatch(url):
            return _one(url)
    except (ValueError, TypeError, RedisError):
        pass
    raise ValueError(f"no {FORM}; in a password, / @ : are %2F %40 %3A")


def _one(url: str) -> Place:
    options = parse_url(url)
    return Place("alone", (_address(options, PORT),), _login(options), _tls(options))


def _many(found: "re.Match[str]") -> Place:
    kind, path, query = found["kind"], (found["path"] or "/")[1:].split("/"), parse_qs(found["query"] or "")
    own = {name: query.pop(name, [""])[0] for name in ("sentinel_username", "sentinel_password")}
    master, db = (unquote(path[0]), *path[1:], "")[:2] if kind == "sentinel" else ("", path[0])
    if (kind == "sentinel") != bool(master) or len(path) > 2 or (kind == "cluster" and db not in ("", "0")):
        raise ValueError("sentinels need the name of a master, and a cluster has one database alone")
    if db and not db.isdigit():
        raise ValueError("a database has a number")
    who = f"{found['who']}@" if found["who"] else ""
    rest = f"/{db}?{urlencode(query, doseq=True)}"
    each = [parse_url(f"{found['scheme']}://{who}{host}{rest}") for host in found["hosts"].split(",")]
    port = SENTINEL_PORT if kind == "sentinel" else PORT
    sentinel = Login(own["sentinel_username"], own["sentinel_password"])
    addresses = tuple(_address(options, port) for options in each)
    return Place(kind, addresses, _login(each[0]), _tls(each[0]), master, sentinel)


def _address(options: Mapping[str, Any], port: int) -> Address:
    if options.get("path"):
        return Address(path=options["path"])
    return Address(options.get("host", "localhost"), options.get("port", port))


def _login(options: Mapping[str, Any]) -> Login:
    known = {"username", "password", "db", "host", "port", "path", "connection_class"}
    if foreign := [name for name in options if name not in known and not name.startswith(_TLS)]:
        raise ValueError(f"unknown: {foreign}")
    return Login(options.get("username") or "", options.get("password") or "", options.get("db") or 0)


def _tls(options: Mapping[str, Any]) -> ssl.SSLContext | None:
    if options.get("connection_class") is not SSLConnection:
        return None
    wanted = {name: value for name, value in options.items() if name.startswith(_TLS)}
    return SSLConnection(**wanted).ssl_context.get()
