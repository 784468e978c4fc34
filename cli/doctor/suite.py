"""A running suite: whether each program serves, and whether all are of one version. Starts nothing."""

import asyncio
from importlib import metadata
from typing import Any

import grpc

from cli.doctor.around import Around
from cli.doctor.finding import Finding, Findings, bad, ok, warn
from cli.probe import TIMEOUT_S, grpc_health, open_to
from cli.tls import tls_of
from maas.gateway.v1.gateway_service_pb2 import GetStatusRequest
from maas.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from maas.oip.v1.grpc_service_pb2 import ServerMetadataRequest
from maas.oip.v1.grpc_service_pb2_grpc import GRPCInferenceServiceStub

VERSIONED = {
    "gateway": lambda channel: GatewayServiceStub(channel).GetStatus(GetStatusRequest(), timeout=TIMEOUT_S),
    "vision": lambda channel: _metadata(channel),
    "sequence": lambda channel: _metadata(channel),
}


def suite(around: Around) -> Findings:
    """Health and version of each program of the suite that runs from here."""
    if not around.up or around.run is None:
        return [ok("suite", "nothing runs from here; `make up` or `maas up` starts it")]
    programs = {name: one.address for name, one in around.run.programs.items() if name in around.ports}
    return asyncio.run(_looked(programs, around))


async def _looked(programs: dict[str, str], around: Around) -> list[Finding]:
    tls = tls_of({**around.environ, **around.tls})
    health = await asyncio.gather(*(grpc_health(address, tls) for address in programs.values()))
    found = [_health(name, states) for name, states in zip(programs, health, strict=True)]
    versions = {}
    for name in VERSIONED.keys() & programs.keys():
        async with open_to(programs[name], tls) as channel:
            try:
                versions[name] = (await VERSIONED[name](channel)).version
            except grpc.RpcError:
                continue
    return [*found, agreement(versions, _installed())]


def _metadata(channel: Any) -> Any:
    return GRPCInferenceServiceStub(channel).ServerMetadata(ServerMetadataRequest(), timeout=TIMEOUT_S)


def _health(name: str, states: dict[str, bool] | None) -> Finding:
    log = f"see .maas/logs/{name}.log"
    if states is None:
        return bad(name, "does not answer", log)
    idle = sorted(what for what, serving in states.items() if not serving)
    if "" in idle:
        return bad(name, "answers, but does not serve", log)
    return (
        warn(name, f"not serving: {', '.join(idle)}", log)
        if idle
        else ok(name, f"serving, {len(states) - 1} names")
    )


def agreement(versions: dict[str, str], installed: str) -> Finding:
    """Whether running programs are of the version that is installed."""
    other = {name: version for name, version in versions.items() if version != installed}
    if other:
        told = ", ".join(f"{name} {version}" for name, version in sorted(other.items()))
        return bad("version", f"{told}; installed is {installed}", "`maas down`, then `maas up`")
    return ok("version", f"{installed}, as {', '.join(sorted(versions)) or 'nobody'} says too")


def _installed() -> str:
    try:
        return metadata.version("maas")
    except metadata.PackageNotFoundError:
        return ""
