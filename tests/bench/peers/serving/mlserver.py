"""MLServer with adaptive batching, its models in the server's own process: the faster of its two ways here."""

import asyncio
from dataclasses import asdict

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse

from tests.bench.peers.serving import spec as specs
from tests.bench.peers.serving.session import opened

MESSAGE_BYTES = 1 << 26
LONGEST_WAIT_S = 0.001


class Served(MLModel):
    """One session with the library's defaults."""

    async def load(self) -> bool:
        self._told = specs.model(self.settings.parameters.extra)
        self._run = opened(self._told)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        arrays = {one.name: NumpyCodec.decode_input(one) for one in payload.inputs}
        answer = NumpyCodec.encode_output(self._told.output.name, self._run(arrays))
        return InferenceResponse(model_name=self.name, outputs=[answer])


def settings(told: specs.Model) -> ModelSettings:
    return ModelSettings(
        name=told.name,
        implementation=Served,
        max_batch_size=specs.MOST_ROWS,
        max_batch_time=LONGEST_WAIT_S,
        parameters=ModelParameters(extra=asdict(told)),
    )


def main() -> None:
    spec = specs.told()
    server = MLServer(
        Settings(
            debug=False,
            host="127.0.0.1",
            grpc_port=spec.port,
            http_port=spec.spare[0],
            metrics_endpoint=None,
            parallel_workers=0,
            grpc_max_message_length=MESSAGE_BYTES,
        )
    )
    asyncio.run(server.start([settings(told) for told in spec.models]))


if __name__ == "__main__":
    main()
