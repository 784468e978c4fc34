"""`maas usage`: what tenants have used of each model, and what it costs."""

import os
from typing import Annotated, Any

import typer

from cli.answers import print_replies
from cli.calling import ADDRESS, CREDENTIAL, Address, AsJson, Calling, Timeout
from cli.client import Answer
from cli.render import out, table
from cli.tls import tls_of
from maas.gateway.v1 import gateway_service_pb2

NUMBERS = ("requests", "cached", "prompt tokens", "completion tokens", "compute s", "cost")


def usage(
    tenant: Annotated[str | None, typer.Option(help="Another tenant's; for administrators.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Every tenant's; for administrators.")] = False,
    first: Annotated[str, typer.Option(help="First day, as 2030-01-31; unset: thirty days ago.")] = "",
    last: Annotated[str, typer.Option(help="Last day; unset: today.")] = "",
    address: Address = ADDRESS,
    timeout: Timeout = 30.0,
    json: AsJson = False,
) -> None:
    """Show requests, tokens, compute time and cost by tenant and model."""
    request = gateway_service_pb2.GetUsageRequest(
        tenant=tenant, all_tenants=everybody, first_day=first, last_day=last
    )
    calling = Calling(address, timeout, json, "", os.environ.get(CREDENTIAL, ""), tls_of(os.environ))
    with calling.client() as client:
        answer = client.call("GatewayService/GetUsage", request)
    if json:
        return print_replies(answer)
    return _show(answer)


def _show(answer: Answer) -> None:
    reply: Any = answer.reply
    rows = [
        (
            row.tenant or "-",
            row.model or "-",
            str(row.requests),
            str(row.cached_requests),
            str(row.prompt_tokens),
            str(row.completion_tokens),
            f"{row.compute_s:.3f}",
            f"{row.cost:.4f} {reply.currency}".strip() if row.HasField("cost") else "",
        )
        for row in reply.usage
    ]
    out().print(table(("tenant", "model", *NUMBERS), rows, right=NUMBERS))
    out().print(f"{reply.first_day} to {reply.last_day}, UTC")
