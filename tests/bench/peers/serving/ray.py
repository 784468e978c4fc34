"""Ray Serve behind its gRPC proxy: one replica, its batching decorator without delay, the library's session."""

import signal
import threading

import numpy as np
import ray
from ray import serve

from maas.oip.v1 import grpc_service_pb2 as pb
from tests.bench.peers.serving.oip import answer, arrays_of
from tests.bench.peers.serving.session import Array, opened
from tests.bench.peers.serving.spec import MOST_ROWS, Model, told

SERVICER = "maas.oip.v1.grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server"
WAITING = 512


@serve.deployment(max_ongoing_requests=WAITING)
class Served:
    """All models in one replica; a batch is of one model."""

    def __init__(self, models: list[Model]) -> None:
        self._models = {one.name: (one, opened(one)) for one in models}

    async def ModelInfer(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        output = self._models[request.model_name][0].output.name
        return answer(request, output, await self.batched((request.model_name, arrays_of(request))))

    @serve.batch(max_batch_size=MOST_ROWS, batch_wait_timeout_s=0)
    async def batched(self, items: list[tuple[str, dict[str, Array]]]) -> list[Array]:
        """One model is asked at a time here, so a batch has one name."""
        _, run = self._models[items[0][0]]
        rows = [arrays for _, arrays in items]
        found = run({name: np.concatenate([one[name] for one in rows]) for name in rows[0]})
        return np.split(found, np.cumsum([len(next(iter(one.values()))) for one in rows])[:-1])


def main() -> None:
    spec = told()
    ray.init(
        address="local",
        num_cpus=spec.cores,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=1 << 28,
    )
    serve.start(
        http_options=serve.HTTPOptions(host="127.0.0.1", port=spec.spare[0]),
        grpc_options=serve.config.gRPCOptions(port=spec.port, grpc_servicer_functions=[SERVICER]),
    )
    serve.run(Served.bind(spec.models))
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    asked.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
