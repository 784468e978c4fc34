"""KServe's Python server: a model of one's own, its session with the library's defaults."""

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer

from tests.bench.peers.serving import spec as specs
from tests.bench.peers.serving.session import opened


class Served(Model):
    """Requests one by one: this server batches none."""

    def __init__(self, told: specs.Model) -> None:
        super().__init__(told.name)
        self._told, self._run = told, opened(told)
        self.ready = True

    def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        arrays = {one.name: one.as_numpy() for one in payload.inputs}
        answer = self._run(arrays)
        output = InferOutput(self._told.output.name, list(answer.shape), "FP32")
        output.set_data_from_numpy(answer, binary_data=True)
        return InferResponse(payload.id, self._told.name, [output])


def main() -> None:
    spec = specs.told()
    server = ModelServer(http_port=spec.spare[0], grpc_port=spec.port, enable_latency_logging=False)
    server.start([Served(model) for model in spec.models])


if __name__ == "__main__":
    main()
