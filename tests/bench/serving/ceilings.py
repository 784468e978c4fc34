"""ONNX Runtime and OpenVINO alone in a process, batches as large as `in flight` says. No server, no network."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from tests.bench.load import Sample
from tests.bench.peers import environments
from tests.bench.peers.serving import alone
from tests.bench.peers.serving.spec import Model
from tests.bench.serving import peers
from tests.bench.serving.report import ALONE
from tests.bench.serving.stand import Bench
from tests.bench.worker import Worker, worker

Ceiling = Callable[[int], Awaitable[Sample]]
# The engine → the environment it is in; none = our own.
ENGINES = {"onnxruntime": "", "openvino": "openvino"}


def versions(root: Path) -> dict[str, str]:
    """Of those that are installed."""
    there = {one: where for one, where in ENGINES.items() if not where or environments.made(root, where)}
    return {f"{engine}{ALONE}": peers.version(engine, where, root) for engine, where in there.items()}


@asynccontextmanager
async def ceilings(model: Model, bench: Bench) -> AsyncIterator[Mapping[str, Ceiling]]:
    """Those that are installed, by name."""
    options = bench.options
    async with AsyncExitStack() as stack:
        found: dict[str, Ceiling] = {}
        for engine, environment in ENGINES.items():
            if environment and not environments.made(options.peers_root, environment):
                continue
            how = {"python": environments.python(options.peers_root, environment)} if environment else {}
            arguments = (engine, model.onnx, str(options.threads or peers.CORES))
            log = options.logs / f"alone-{engine}.log"
            one = worker(alone.__name__, *arguments, environment={}, log=log, **how)
            name = f"{engine}{ALONE}"
            found[name] = partial(_measure, await stack.enter_async_context(one), model, options.seconds)
        yield found


async def _measure(behind: Worker, model: Model, seconds: float, batch: int) -> Sample:
    floats = {one.name: list(one.shape) for one in model.inputs if one.datatype == "FP32"}
    numbers = {one.name: one.constant for one in model.inputs if one.name not in floats}
    return Sample(**await behind.ask(batch=batch, seconds=seconds, floats=floats, numbers=numbers))
