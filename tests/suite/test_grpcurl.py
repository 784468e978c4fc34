"""Every unary RPC of the contracts by the real grpcurl against the live suite, without proto files."""

import base64
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage

from tests.suite.conftest import GRPCURL, Suite

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "contracts.md"
ROW = re.compile(r"^\| `([\w.]+)` \| `(\w+)` \| unary → unary \| .* \| yes \|$", re.M)

PICTURE = {
    "encoded": base64.b64encode((Path(skimage.__file__).parent / "data" / "chelsea.png").read_bytes()).decode()
}
AUDIO = {"packed": base64.b64encode(np.zeros(512, "<f4").tobytes()).decode()}
CHAT = [{"role": "user", "content": "hi"}]
TEXT = {
    "name": "text",
    "datatype": "BYTES",
    "shape": ["1"],
    "contents": {"bytes_contents": [base64.b64encode(b"cat").decode()]},
}
NET = {"model": "mnist-cnn"}

# A request that is answered, by RPC.
REQUESTS: dict[str, dict[str, Any]] = {
    "maas.tokenization.v1.TokenizationService/Tokenize": {"texts": ["a b"]},
    "maas.tokenization.v1.TokenizationService/Detokenize": {"sequences": [{"values": [1, 2]}]},
    "maas.tokenization.v1.TokenizationService/CountTokens": {"texts": ["a b"]},
    "maas.tokenization.v1.TokenizationService/RenderChat": {"messages": CHAT},
    "maas.tokenization.v1.TokenizationService/GetTokenizer": {},
    "maas.vision.v1.VisionService/Classify": {"images": [PICTURE], "top_k": 1},
    "maas.vision.v1.VisionService/Embed": {"images": [PICTURE]},
    "maas.vision.v1.VisionService/Explain": {"image": PICTURE, "steps": 1},
    "maas.sequence.v1.SequenceService/Classify": {"series": {"values": [AUDIO]}},
    "maas.sequence.v1.SequenceService/Embed": {"texts": {"values": ["a b"]}},
    "maas.sequence.v1.SequenceService/Transduce": {"texts": ["cat"]},
    "maas.sequence.v1.SequenceService/Explain": {"series": AUDIO, "steps": 1},
    "maas.sequence.v1.SequenceService/StepSession": {
        "open": {},
        "step": {"step": 1, "series": AUDIO},
        "close": True,
    },
    "maas.generation.v1.GenerationService/Generate": {"text": "a", "stopping": {"max_tokens": 1}},
    "maas.generation.v1.GenerationService/Score": {"text": "a b"},
    "maas.gateway.v1.GatewayService/FanOut": {"calls": [{"id": "a", "tokenize": {"texts": ["a"]}}]},
    "maas.gateway.v1.GatewayService/RunPipeline": {
        "name": "describe",
        "inputs": {"picture": {"image": PICTURE}, "max_tokens": {"integer": 1}},
    },
    "maas.gateway.v1.GatewayService/ListPipelines": {},
    "maas.gateway.v1.GatewayService/GetStatus": {},
    "maas.gateway.v1.GatewayService/GetUsage": {},
    "maas.gateway.v1.GatewayService/FlushCache": NET,
    "maas.admin.v1.AdminService/SetLogLevel": {"logger": "maas.call", "level": "LOG_LEVEL_DEBUG", "for_s": 1},
    "maas.admin.v1.AdminService/GetLogLevel": {},
    "maas.model.v1.ModelService/ListModels": {},
    "maas.model.v1.ModelService/GetModel": NET,
    "maas.model.v1.ModelService/UnloadModel": NET,
    "maas.model.v1.ModelService/LoadModel": NET,
    "maas.model.v1.ModelService/SetLabel": {**NET, "label": "grpcurl", "version": "1"},
    "inference.GRPCInferenceService/ServerLive": {},
    "inference.GRPCInferenceService/ServerReady": {},
    "inference.GRPCInferenceService/ModelReady": {"name": "g2p-en"},
    "inference.GRPCInferenceService/ServerMetadata": {},
    "inference.GRPCInferenceService/ModelMetadata": {"name": "g2p-en"},
    "inference.GRPCInferenceService/ModelConfig": {"name": "g2p-en"},
    "inference.GRPCInferenceService/ModelInfer": {"model_name": "g2p-en", "inputs": [TEXT]},
    "inference.GRPCInferenceService/ModelStatistics": {"name": "g2p-en"},
    "inference.GRPCInferenceService/RepositoryIndex": {},
    "inference.GRPCInferenceService/RepositoryModelUnload": {"model_name": "mnist-cnn"},
    "inference.GRPCInferenceService/RepositoryModelLoad": {"model_name": "mnist-cnn"},
}
# No model of the suite's own has this task: the service says so.
FORECAST = "maas.sequence.v1.SequenceService/Forecast"


def told(suite: Suite, *arguments: str) -> str:
    command = [str(GRPCURL), "-plaintext", suite.address(), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def rows() -> list[str]:
    return [f"{service}/{name}" for service, name in ROW.findall(PAGE.read_text())]


def test_every_unary_rpc_of_the_contracts_is_tried_here() -> None:
    assert sorted(rows()) == sorted([*REQUESTS, FORECAST])


@pytest.mark.parametrize("method", REQUESTS)
def test_a_unary_rpc_answers(suite: Suite, method: str) -> None:
    reply = suite.grpcurl(method, REQUESTS[method])
    assert reply.code == 0, reply.error
    assert len(reply.messages) == 1
    if method == "maas.model.v1.ModelService/SetLabel":
        assert suite.grpcurl(method, {**REQUESTS[method], "version": ""}).code == 0


def test_forecast_names_what_is_there(suite: Suite) -> None:
    series = {"values": [0.0] * 64}
    reply = suite.grpcurl(FORECAST, {"model": "absent", "series": series, "horizon_steps": 1})
    assert "Code: NotFound" in reply.error and "silero-vad" in reply.error


def test_list_and_describe_know_every_service_and_rpc(suite: Suite) -> None:
    listed = told(suite, "list").split()
    assert {method.partition("/")[0] for method in rows()} <= set(listed)
    described = {service: told(suite, "describe", service) for service in listed}
    for method in rows():
        service, _, name = method.partition("/")
        assert f"rpc {name} (" in described[service]
    message = told(suite, "describe", "inference.ModelInferRequest")
    assert "repeated bytes raw_input_contents = 7;" in message


def test_values_come_back_typed_where_they_were_typed(suite: Suite) -> None:
    method = "inference.GRPCInferenceService/ModelInfer"
    (reply,) = suite.grpcurl(method, REQUESTS[method]).messages
    assert base64.b64decode(reply["outputs"][0]["contents"]["bytes_contents"][0]) == b"K AE1 T"


def test_the_example_of_the_client(suite: Suite) -> None:
    script = ROOT / "client" / "examples" / "grpcurl.sh"
    path = f"{GRPCURL.parent}{os.pathsep}{os.environ['PATH']}"
    command = ["sh", str(script), suite.address()]
    environment = {**os.environ, "PATH": path}
    shown = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=True
    ).stdout
    assert '"text": "K AH0 M P Y UW1 T ER0"' in shown and "maas.vision.v1.VisionService" in shown
    assert "".join(re.findall(r'"text_delta": "(.*)"', shown)) == "The capital of France is Paris."
    assert "sampling.temperature: is -1; must be at least 0" in shown
