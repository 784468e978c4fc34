"""Whether the ports of the suite are free, or held by the suite itself."""

from cli.doctor.around import Around
from cli.doctor.finding import Findings, bad, ok
from cli.doctor.listeners import holder
from cli.ports import is_free
from cli.program import METRICS_OFFSET


def ports(around: Around) -> Findings:
    """The five ports and the five of metrics; whoever holds one that should be free."""
    taken = {port: name for name, port in wanted(around).items() if not is_free(around.host, port)}
    if around.up:
        return [ok("ports", "held by the running suite")]
    if not taken:
        return [ok("ports", f"{around.host}: {', '.join(map(str, wanted(around).values()))} are free")]
    return [
        bad(
            f"port {port}",
            f"{name} wants it, {holder(port)} has it",
            f"stop that process, or `maas up --{name.split()[0]}-port OTHER`",
        )
        for port, name in taken.items()
    ]


def wanted(around: Around) -> dict[str, int]:
    """What each port is for."""
    metrics = {f"{name} metrics": port + METRICS_OFFSET for name, port in around.ports.items()}
    return {**around.ports, **metrics}
