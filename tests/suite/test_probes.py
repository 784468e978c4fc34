"""Health as Kubernetes and meshes ask for it: grpc.health.v1 by the name of a process, a service, a model."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.suite.conftest import PROGRAMS, Suite, health

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]

MODELS = {
    "tokenization": ["smollm2-135m-instruct", "gpt2-bpe", "minilm-l6-v2", "mistral-spm"],
    "vision": ["efficientnet-lite0", "mnist-cnn"],
    "sequence": ["silero-vad", "g2p-en", "minilm-l6-v2"],
    "generation": ["smollm2-135m-instruct"],
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_probe_by_process_service_and_model(suite: Suite, program: str) -> None:
    areas = MODELS if program == "gateway" else [program]
    names = ["", *(f"maas.{area}.v1.{area.title()}Service" for area in areas)]
    names += [f"maas.model/{model}" for area in areas for model in MODELS[area]]
    listed = suite.grpcurl("grpc.health.v1.Health/List", {}, program).messages[0]["statuses"]
    assert {name: listed.get(name, {}).get("status") for name in names} == dict.fromkeys(names, "SERVING")
    assert [health(suite.address(program), name) for name in (names[0], names[-1])] == ["SERVING"] * 2
    assert health(suite.address(program), "maas.model/none-such") == "NotFound"


def test_a_model_that_is_unloaded_is_not_ready_and_its_process_is(suite: Suite) -> None:
    address = suite.address("vision")
    assert suite.grpcurl("maas.model.v1.ModelService/UnloadModel", {"model": "mnist-cnn"}, "vision").code == 0
    try:
        assert health(address, "maas.model/mnist-cnn") == "NOT_SERVING"
        assert health(address) == "SERVING"
    finally:
        suite.grpcurl("maas.model.v1.ModelService/LoadModel", {"model": "mnist-cnn"}, "vision")
    assert health(address, "maas.model/mnist-cnn") == "SERVING"


def test_a_probe_does_not_wait_behind_work(suite: Suite) -> None:
    """A kubelet waits one second; so many streams fill the engine for longer."""
    long = {"text": "Once", "stopping": {"max_tokens": 64, "ignore_eos": True}, "sampling": {"temperature": 1}}
    method = "maas.generation.v1.GenerationService/Generate"
    with ThreadPoolExecutor(6) as pool:
        busy = [pool.submit(suite.grpcurl, method, long, "generation") for _ in range(6)]
        probes = [health(suite.address("generation")) for _ in range(3)]
        assert not all(call.done() for call in busy)
    assert probes == ["SERVING"] * 3
    assert {call.result().code for call in busy} == {0}
