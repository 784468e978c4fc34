"""`maas loglevel`: from which level on running servers write to their logs, and for how long."""

import os
from typing import Annotated, Any

import typer

from cli.answers import print_replies
from cli.calling import ADDRESS, CREDENTIAL, Address, AsJson, Calling, Timeout
from cli.client import Answer
from cli.render import err, out, table
from cli.tls import tls_of
from maas.admin.v1 import admin_service_pb2 as pb
from services.runtime.errors import InvalidInput

PREFIX = "LOG_LEVEL_"
# Takes back what was set.
USUAL = "usual"
LEVELS = [name.removeprefix(PREFIX).lower() for name in pb.LogLevel.keys()[1:]]


def loglevel(
    level: Annotated[str, typer.Argument(help=f"{', '.join(LEVELS)}, or {USUAL}; unset: show.")] = "",
    logger: Annotated[str, typer.Option(help="`maas.call` and the like; unset: all.")] = "",
    seconds: Annotated[
        float, typer.Option("--for", min=1, max=86400, help="Seconds until it falls back.")
    ] = 600.0,
    service: Annotated[
        str, typer.Option(help="At the gateway: every replica of a service, or `all`; unset: the server asked.")
    ] = "",
    address: Address = ADDRESS,
    timeout: Timeout = 30.0,
    json: AsJson = False,
) -> None:
    """Show or change what running servers log; for administrators."""
    credential = os.environ.get(CREDENTIAL, "")
    with Calling(address, timeout, json, "", credential, tls_of(os.environ)).client() as client:
        if level:
            told = pb.SetLogLevelRequest(logger=logger, level=_number(level), for_s=seconds, service=service)
            answer = client.call("AdminService/SetLogLevel", told)
        else:
            asked = pb.GetLogLevelRequest(logger=logger, service=service)
            answer = client.call("AdminService/GetLogLevel", asked)
    if json:
        return print_replies(answer)
    return _show(answer)


def _number(level: str) -> Any:
    if level == USUAL:
        return pb.LOG_LEVEL_UNSPECIFIED
    if level not in LEVELS:
        raise InvalidInput("level", f"{level!r} is none of {', '.join((*LEVELS, USUAL))}")
    return pb.LogLevel.Value(PREFIX + level.upper())


def _show(answer: Answer) -> None:
    reply: Any = answer.reply
    rows = [
        (
            one.server or "-",
            one.logger,
            pb.LogLevel.Name(one.level).removeprefix(PREFIX).lower(),
            f"{one.seconds_left:.0f} s" if one.HasField("seconds_left") else "",
        )
        for one in reply.levels
    ]
    out().print(table(("server", "logger", "level", "falls back in"), rows, right=("falls back in",)))
    for server, why in reply.unavailable.items():
        err().print(f"{server}: {why}", soft_wrap=True, highlight=False, markup=False)
