"""The other servers: which there are, how each is started with what it is to serve. Measures nothing."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
from grpc import aio

from cli.ports import any_free
from cli.program import Program
from services.runtime.channels import open_channel
from tests.bench.options import Options
from tests.bench.peers import environments
from tests.bench.peers.environments import NotInstalled
from tests.bench.peers.prepare import Missing
from tests.bench.peers.serving.spec import FORMS, Model, Spec
from tests.bench.servers import HOST
from tests.bench.serving import oip

STUBS = Path(__file__).parents[3] / "protos" / "gen"
CORES = 2
SPARE_PORTS = 3
DTYPES = {"FP32": np.float32, "INT64": np.int64}


@dataclass(frozen=True, slots=True)
class Peer:
    """`tests.bench.peers.serving.<module>` serves in `environment`, made of its .txt; none = our own.

    shown: the package whose version is told.
    """

    module: str
    environment: str
    shown: str

    def python(self, root: Path) -> Path:
        return environments.python(root, self.environment) if self.environment else Path(sys.executable)

    def version(self, root: Path) -> str:
        return version(self.shown, self.environment, root)


SERVERS: Mapping[str, Peer] = {
    "triton": Peer("triton", "triton", "nvidia-pytriton"),
    "mlserver": Peer("mlserver", "mlserver", "mlserver"),
    "kserve": Peer("kserve", "kserve", "kserve"),
    "ray": Peer("ray", "ray", "ray"),
    "grpc.aio": Peer("bare", "", "grpcio"),
}


def version(package: str, environment: str, root: Path) -> str:
    """`package version` as it is installed there; no environment = our own."""
    site = root / environment / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    where = {"path": [str(site)]} if environment else {}
    found = next(iter(metadata.distributions(name=package, **where)))
    return f"{package} {found.version}"


async def prepare(options: Options) -> tuple[list[str], list[Missing]]:
    """Names of those that can be started; those asked for are made if need be, None = those that are there."""
    ready, missing = list[str](), list[Missing]()
    for name, peer in SERVERS.items():
        there = not peer.environment or environments.made(options.peers_root, peer.environment)
        if options.peers is not None and peer.environment and name not in options.peers:
            missing.append(Missing(name, "not asked for"))
        elif options.peers is None and not there:
            missing.append(Missing(name, f"not installed; `--peers {name}` does it"))
        else:
            try:
                await _make(peer, options)
                ready.append(name)
            except NotInstalled as reason:
                missing.append(Missing(name, f"not installed: {reason}"))
    return ready, missing


async def _make(peer: Peer, options: Options) -> None:
    if peer.environment:
        options.tell(f"preparing {peer.environment}")
        log = options.peers_root / f"{peer.environment}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        await environments.make(options.peers_root, peer.environment, log)


def program(name: str, models: Sequence[Model], options: Options, forms: Sequence[str] = FORMS) -> Program:
    """The server with these models; it serves when each has answered."""
    peer, folder = SERVERS[name], options.peers_root / "serving" / name
    port, *spare = [any_free(HOST) for _ in range(1 + SPARE_PORTS)]
    path = Spec(str(folder), port, spare, CORES, models, forms).write()
    module = f"tests.bench.peers.serving.{peer.module}"
    command = (str(peer.python(options.peers_root)), "-m", module, str(path))
    address = f"{HOST}:{port}"
    return Program(f"peer-{name}", command, address, partial(_answers, address, models), _surroundings())


def _surroundings() -> dict[str, str]:
    """Where environments that are not ours find our stubs; what these servers would otherwise ask of the world."""
    return {"PYTHONPATH": str(STUBS), "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0", "DO_NOT_TRACK": "1"}


async def _answers(address: str, models: Sequence[Model]) -> bool:
    async with open_channel(address, retry=False) as channel:
        ask = channel.unary_unary(oip.INFER)
        try:
            for model in models:
                await ask(oip.request(model.name, blank(model)), timeout=2)
        except aio.AioRpcError:
            return False
    return True


def blank(model: Model, rows: int = 1) -> dict[str, oip.Array]:
    """Inputs of the right shapes with nothing in them."""
    return {one.name: np.full((rows, *one.shape), one.constant, DTYPES[one.datatype]) for one in model.inputs}
