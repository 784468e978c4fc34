"""Plain HTTP and JSON through the real Envoy, as curl sends them: every kind of call, errors, streams, limits."""

import base64
import http.client
import json
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import skimage

from tests.suite.conftest import Suite
from tests.suite.envoy import Answer, Edge

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]

CAT = Path(skimage.__file__).parent / "data" / "chelsea.png"
PICTURE = {"encoded": base64.b64encode(CAT.read_bytes()).decode()}
CAPITAL = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
ENDLESS = {"text": "Once", "stopping": {"max_tokens": 2000, "ignore_eos": True}, "sampling": {"temperature": 1}}
SILENCE = {"values": [0.0] * 512}
IDS = [19556, 905, 17]

CALLS: dict[str, tuple[Any, Callable[[Any], Any], Any]] = {
    "tokenization:tokenize": ({"texts": ["Hello world!"]}, lambda r: r["encodings"][0]["ids"], IDS),
    "tokenization:detokenize": ({"sequences": [{"values": IDS}]}, lambda r: r["texts"], ["Hello world!"]),
    "tokenization:countTokens": ({"texts": ["Hello world!"]}, lambda r: r["counts"], [3]),
    "tokenization:renderChat": (CAPITAL, lambda r: r["text"].count("What is the capital of France?"), 1),
    "vision:classify": (
        {"images": [PICTURE], "top_k": 1},
        lambda r: [label["index"] for label in r["results"][0]["labels"]],
        [282],
    ),
    "vision:embed": ({"images": [PICTURE], "readable": True}, lambda r: r["embeddings"]["shape"], ["1", "1280"]),
    "sequence:classify": (
        {"series": {"values": [SILENCE]}, "top_k": 1},
        lambda r: r["results"][0]["labels"][0]["name"],
        "silence",
    ),
    "sequence:embed": (
        {"texts": {"values": ["a cat"]}, "readable": True},
        lambda r: r["embeddings"]["shape"],
        ["1", "384"],
    ),
    "sequence:transduce": ({"texts": ["computer"]}, lambda r: r["results"][0]["text"], "K AH0 M P Y UW1 T ER0"),
    "sequence:stepSession": (
        {"open": {}, "step": {"step": 1, "series": SILENCE}, "close": True},
        lambda r: r["output"]["step"],
        "1",
    ),
    "generation:generate": (
        {"chat": CAPITAL},
        lambda r: r["completions"][0]["text"],
        "The capital of France is Paris.",
    ),
    "generation:score": ({"text": "Once upon a time"}, lambda r: r["scored_tokens"], 3),
    "gateway:fanOut": (
        {
            "calls": [
                {"id": "t", "tokenize": {"texts": ["Hello world!"]}},
                {"id": "n", "transduce": {"model": "no"}},
            ]
        },
        lambda r: ("tokenize" in r["results"][0], r["results"][1]["status"]["details"][0]["domain"]),
        (True, "maas"),
    ),
}


def error(answer: Answer) -> tuple[int, int, list[str]]:
    """HTTP status, gRPC code, and the kinds of details, of google.rpc.Status as JSON."""
    assert answer.headers["content-type"] == "application/json"
    kinds = [detail["@type"].rpartition(".")[2] for detail in answer.json["details"]]
    return answer.status, answer.json["code"], kinds


@pytest.mark.parametrize("path", CALLS)
def test_a_call_as_json(front: Edge, path: str) -> None:
    request, of, expected = CALLS[path]
    answer = front.post(f"/v1/{path}", request)
    assert answer.status == 200, answer.body
    assert of(answer.json) == expected


def test_what_only_reads_is_asked_by_get(front: Edge) -> None:
    names = {model["name"] for model in front.get("/v1/model:listModels?task=vision.classify").json["models"]}
    assert {"efficientnet-lite0", "mnist-cnn"} <= names
    assert front.get("/v1/model:getModel?model=mnist-cnn").json["model"]["name"] == "mnist-cnn"
    assert front.get("/v1/tokenization:getTokenizer").json["vocabulary_size"] == 49152
    assert {b["health"] for b in front.get("/v1/gateway:getStatus").json["backends"]} == {"SERVING"}


def test_a_stream_is_a_message_a_line(front: Edge) -> None:
    # Asked by nobody else: an answer from memory comes as one message.
    asked = {"chat": CAPITAL, "sampling": {"seed": 97}}
    answer = front.post("/v1/generation:generateStream", asked)
    parts = [json.loads(line) for line in answer.body.splitlines()]
    assert len(parts) > 1
    assert "".join(part["text_delta"] for part in parts) == "The capital of France is Paris."
    assert {part["index"] for part in parts} == {0}, "a zero is told, too"
    assert parts[-1]["finish_reason"] == "FINISH_REASON_EOS"


def test_a_stream_without_an_end_is_told_as_it_comes(front: Edge) -> None:
    link = http.client.HTTPConnection(front.address, timeout=20)
    link.request("GET", "/v1/model:watchModels?model=mnist-cnn")
    first = json.loads(link.getresponse().readline())
    assert first["model"]["name"] == "mnist-cnn"
    link.close()


def test_errors_keep_their_details(front: Edge) -> None:
    bad = front.post("/v1/generation:generate", {"text": "hi", "sampling": {"temperature": -1}})
    assert error(bad) == (400, 3, ["ErrorInfo", "BadRequest"])
    assert bad.json["details"][1]["field_violations"][0]["field"] == "sampling.temperature"
    unknown = front.post("/v1/vision:classify", {"model": "nope", "images": [PICTURE]})
    assert error(unknown) == (404, 5, ["ErrorInfo", "ResourceInfo"])
    refused = front.post("/v1/generation:generateStream", {"text": "hi", "model": "nope"})
    assert error(refused)[:2] == (404, 5)
    task = front.post("/v1/sequence:forecast", {"model": "g2p-en", "series": SILENCE, "horizon_steps": 1})
    assert error(task)[:2] == (400, 3)
    assert "g2p-en" in task.json["message"]


def test_what_is_no_json_of_the_request_is_refused(front: Edge) -> None:
    path = "/v1/tokenization:tokenize"
    assert front.send("POST", path, b'{"texts": [', {"content-type": "application/json"}).status == 400
    assert front.post(path, {"no_such_field": 1}).status == 400
    assert front.get("/v1/model:listModels?no_such_field=1").status == 400
    assert front.post("/v1/tokenization:nonsense", {}).status == 404
    assert front.get("/").status == 404


def test_a_deadline_in_a_header_ends_the_call(front: Edge) -> None:
    late = front.post("/v1/generation:generate", ENDLESS, grpc_timeout="300m")
    assert late.status == 504
    assert front.post("/v1/tokenization:tokenize", {"texts": ["a"]}, grpc_timeout="5S").status == 200


def generations(suite: Suite, what: str) -> float:
    """A counter of the generation service's calls of Generate."""
    with urllib.request.urlopen(
        f"http://127.0.0.1:{suite.ports['generation'] + 4000}/metrics", timeout=10
    ) as reply:
        told = reply.read().decode()
    name = 'grpc_method="maas.generation.v1.GenerationService/Generate"'
    return sum(map(float, re.findall(rf"^grpc_server_call_{what}{{{name}.*}} (\S+)$", told, re.M)))


def test_a_caller_who_leaves_takes_the_call_along(suite: Suite, front: Edge) -> None:
    started, ended = "started_total", "duration_seconds_count"
    end = time.monotonic() + 5
    while generations(suite, ended) != (before := generations(suite, started)):
        assert time.monotonic() < end, "the calls before it have not ended"
    link = http.client.HTTPConnection(front.address, timeout=20)
    link.request("POST", "/v1/generation:generate", json.dumps(ENDLESS))
    end = time.monotonic() + 5
    while generations(suite, started) == before:
        assert time.monotonic() < end
    assert generations(suite, ended) == before
    link.close()
    while generations(suite, ended) == before:
        assert time.monotonic() < end, "it is generated on for nobody"


def test_headers_go_both_ways(front: Edge) -> None:
    request = {"texts": ["through the edge"]}
    first = front.post("/v1/tokenization:tokenize", request, x_request_id="curl-1")
    assert (first.headers["x-maas-cache"], first.headers["x-request-id"]) == ("miss", "curl-1")
    again = front.post("/v1/tokenization:tokenize", request)
    assert again.headers["x-maas-cache"].startswith("hit")
    absent = front.post("/v1/tokenization:tokenize", {"texts": ["never asked"]}, cache_control="only-if-cached")
    assert error(absent)[:2] == (404, 5)
    assert absent.json["details"][0]["reason"] == "CACHE_MISS"


def test_a_body_larger_than_the_buffers_comes_through(front: Edge) -> None:
    blob = base64.b64encode(bytes(9 << 20)).decode()
    judged = front.post("/v1/vision:classify", {"images": [{"encoded": blob}]})
    assert error(judged)[:2] == (400, 3)


def test_administration_is_refused_whatever_it_comes_as(suite: Suite, front: Edge) -> None:
    assert front.post("/v1/model:loadModel", {"model": "mnist-cnn"}).status == 404
    for method in (
        "maas.model.v1.ModelService/LoadModel",
        "maas.model.v1.ModelService/UnloadModel",
        "maas.gateway.v1.GatewayService/FlushCache",
        "maas.admin.v1.AdminService/SetLogLevel",
        "inference.GRPCInferenceService/RepositoryModelUnload",
    ):
        kinds = ("application/grpc", "application/grpc-web+proto", "application/json")
        answers = [front.send("POST", f"/{method}", bytes(5), {"content-type": kind}) for kind in kinds]
        assert [a.headers.get("grpc-status", a.status) for a in answers] == ["7", "7", 404]
    for inner in ("maas.internal.v1.EnvelopeService/Exchange", "grpc.channelz.v1.Channelz/GetServers"):
        assert front.send("POST", f"/{inner}", bytes(5), {"content-type": kinds[0]}).headers["grpc-status"] == "12"
    assert suite.grpcurl("maas.model.v1.ModelService/GetModel", {"model": "mnist-cnn"}).code == 0


def test_nobody_outside_steers_envoy(front: Edge) -> None:
    told = {"x_envoy_upstream_rq_timeout_ms": "1", "x_envoy_max_retries": "9", "x_envoy_retry_on": "5xx"}
    answer = front.post("/v1/generation:generate", {"text": "A", "stopping": {"max_tokens": 8}}, **told)
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith("x-envoy")]


def test_a_probe_of_envoy_itself(front: Edge) -> None:
    assert front.get("/healthz").status == 200
