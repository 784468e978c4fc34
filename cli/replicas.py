"""What a gateway says of the processes behind it, as `maas status` shows them. Starts and stops nothing."""

from collections.abc import Sequence
from typing import Any

import grpc
from rich.table import Table

from cli.board import coloured
from cli.probe import TIMEOUT_S, open_to
from cli.render import table
from maas.gateway.v1.gateway_service_pb2 import GetStatusRequest
from maas.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from services.runtime.tls.settings import TlsSettings

WORDS = {"SERVING": "serving", "NOT_SERVING": "not serving"}
COLUMNS = ("service", "address", "health", "share", "in flight", "calls", "failures")


async def behind(gateway: str, tls: TlsSettings | None = None) -> list[dict[str, Any]] | None:
    """One row a replica, as `maas status --json` prints it; None where no gateway answers."""
    async with open_to(gateway, tls) as channel:
        try:
            told = await GatewayServiceStub(channel).GetStatus(GetStatusRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError:
            return None
    return [
        {
            "service": one.service,
            "address": one.address,
            "health": one.health,
            "share": round(one.share, 2),
            "in_flight": one.in_flight,
            "calls": one.calls,
            "failures": one.failures,
        }
        for one in told.backends
    ]


def shown(rows: Sequence[dict[str, Any]]) -> Table:
    """The same as a table."""
    lines = [
        [
            row["service"],
            row["address"],
            coloured(WORDS.get(row["health"], row["health"].lower())),
            f"{row['share']:.0%}",
            *(str(row[name]) for name in ("in_flight", "calls", "failures")),
        ]
        for row in rows
    ]
    return table(COLUMNS, lines, right=COLUMNS[3:])
