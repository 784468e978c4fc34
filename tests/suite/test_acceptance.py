"""The main job on real input: a person with grpcurl and no proto files, through the gateway."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import skimage

from tests.suite.conftest import Suite

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]

TEXT = "héllo 日本語 🙂\n\n  x"
IDS = [88, 2756, 31394, 17097, 241, 115, 40993, 179, 120, 248, 47526, 8866, 1792]
PICTURES = Path(skimage.__file__).parent / "data"
TOKENIZE = "maas.tokenization.v1.TokenizationService/Tokenize"
DETOKENIZE = "maas.tokenization.v1.TokenizationService/Detokenize"
CLASSIFY = "maas.vision.v1.VisionService/Classify"
TRANSDUCE = "maas.sequence.v1.SequenceService/Transduce"
EMBED = "maas.sequence.v1.SequenceService/Embed"
GENERATE = "maas.generation.v1.GenerationService/Generate"
STREAM = "maas.generation.v1.GenerationService/GenerateStream"
CAPITAL = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}


def picture(name: str) -> dict[str, str]:
    return {"encoded": base64.b64encode((PICTURES / name).read_bytes()).decode()}


def answer(suite: Suite, method: str, request: Any, **options: Any) -> Any:
    reply = suite.grpcurl(method, request, **options)
    assert reply.code == 0, reply.error
    return reply.messages[0]


def test_tokenize_and_back_with_offsets_on_the_right_characters(suite: Suite) -> None:
    found = answer(suite, TOKENIZE, {"texts": [TEXT], "include": {"offsets": True}})["encodings"][0]
    assert found["ids"] == IDS
    pieces = [TEXT[o["start"] : o["end"]] for o in found["offsets"]]
    assert pieces[:3] == ["h", "é", "llo"]
    assert pieces[6] == "本"
    assert pieces[-3:] == [" 🙂", "\n\n ", " x"]
    back = answer(suite, DETOKENIZE, {"sequences": [{"values": IDS}]})
    assert back["texts"] == [TEXT]


@pytest.mark.parametrize(("name", "index"), [("chelsea.png", 282), ("coffee.png", 967), ("rocket.jpg", 657)])
def test_real_photographs(suite: Suite, name: str, index: int) -> None:
    labels = answer(suite, CLASSIFY, {"images": [picture(name)]})["results"][0]["labels"]
    assert labels[0]["index"] == index
    assert len(labels) == 5


def test_chat_unary_and_streamed(suite: Suite) -> None:
    whole = answer(suite, GENERATE, {"chat": CAPITAL})["completions"][0]
    assert whole["text"] == "The capital of France is Paris."
    assert whole["finish_reason"] == "FINISH_REASON_EOS"
    stream = suite.grpcurl(STREAM, {"chat": CAPITAL})
    assert stream.code == 0, stream.error
    assert "".join(m["text_delta"] for m in stream.messages) == whole["text"]
    assert [m["sequence_number"] for m in stream.messages] == [str(i + 1) for i in range(len(stream.messages))]
    assert stream.messages[-1]["finish_reason"] == "FINISH_REASON_EOS"


def test_transduce(suite: Suite) -> None:
    found = answer(suite, TRANSDUCE, {"texts": ["computer", "phoneme"]})
    assert [r["text"] for r in found["results"]] == ["K AH0 M P Y UW1 T ER0", "F OW1 N IY0 M"]


REPEATED = {
    "tokenize": (TOKENIZE, {"texts": ["the same again"]}),
    "classify": (CLASSIFY, {"images": [picture("coffee.png")], "top_k": 2}),
    "embed": (EMBED, {"texts": {"values": ["the same again"]}}),
    "transduce": (TRANSDUCE, {"texts": ["again"]}),
    "greedy": (GENERATE, {"text": "Once upon a time", "stopping": {"max_tokens": 4}}),
    "seeded": (
        GENERATE,
        {"text": "Once upon", "sampling": {"temperature": 1, "seed": "7"}, "stopping": {"max_tokens": 4}},
    ),
}


@pytest.mark.parametrize("name", REPEATED)
def test_the_second_time_from_cache_with_the_first_answers_bytes(suite: Suite, name: str) -> None:
    method, request = REPEATED[name]
    first = suite.grpcurl(method, request)
    again = suite.grpcurl(method, request)
    assert first.headers["x-maas-cache"] == "miss"
    assert again.headers["x-maas-cache"].startswith("hit")
    assert again.messages == first.messages


def test_unseeded_sampling_is_never_cached(suite: Suite) -> None:
    request = {"text": "Once upon", "sampling": {"temperature": 1}, "stopping": {"max_tokens": 4}}
    outcomes = [suite.grpcurl(GENERATE, request).headers["x-maas-cache"] for _ in range(2)]
    assert outcomes == ["bypass", "bypass"]


def test_cache_control_by_metadata(suite: Suite) -> None:
    request = {"texts": ["controlled"]}
    absent = suite.grpcurl(TOKENIZE, request, headers={"cache-control": "only-if-cached"})
    assert "CACHE_MISS" in absent.error
    suite.grpcurl(TOKENIZE, request, headers={"cache-control": "no-store"})
    assert suite.grpcurl(TOKENIZE, request).headers["x-maas-cache"] == "miss"
    fresh = suite.grpcurl(TOKENIZE, request, headers={"cache-control": "no-cache"})
    assert not fresh.headers["x-maas-cache"].startswith("hit")
    assert suite.grpcurl(TOKENIZE, request, headers={"cache-control": "only-if-cached"}).code == 0


def test_still_a_hit_after_the_gateway_restarts(suite: Suite) -> None:
    method, request = TOKENIZE, {"texts": ["outlives the gateway"]}
    first = suite.grpcurl(method, request)
    old = suite.kill("gateway")
    suite.await_serving("gateway", not_pid=old)
    again = suite.grpcurl(method, request)
    assert again.headers["x-maas-cache"] == "hit-l2"
    assert again.messages == first.messages


FAN_OUT = "maas.gateway.v1.GatewayService/FanOut"
CALLS = {
    "calls": [
        {"id": "t", "tokenize": {"texts": ["one of four"]}},
        {"id": "v", "classify_image": {"images": [picture("rocket.jpg")], "top_k": 1}},
        {"id": "s", "transduce": {"texts": ["four"]}},
        {"id": "g", "generate": {"text": "One of four", "stopping": {"max_tokens": 2}}},
    ]
}


def test_fan_out_to_all_four_and_with_one_down(suite: Suite) -> None:
    found = answer(suite, FAN_OUT, CALLS)["results"]
    assert [r["id"] for r in found] == ["t", "v", "s", "g"]
    assert not any("status" in r for r in found)
    assert found[1]["classify_image"]["results"][0]["labels"][0]["index"] == 657
    old = suite.kill("vision")
    headers = {"cache-control": "no-cache"}
    # The gateway waits a while for a service that was there a moment ago; this call does not.
    hurried = {
        "calls": [{**call, **({"timeout_ms": 100} if call["id"] == "v" else {})} for call in CALLS["calls"]]
    }
    found = answer(suite, FAN_OUT, hurried, headers=headers)["results"]
    assert found[1]["status"]["code"] in (4, 14)
    assert [next(iter(set(r) & {"tokenize", "transduce", "generate"}), "") for r in found] == [
        "tokenize",
        "",
        "transduce",
        "generate",
    ]
    suite.await_serving("vision", not_pid=old)
    suite.await_reachable("vision")
    again = answer(suite, FAN_OUT, CALLS, headers=headers)["results"]
    assert again[1]["classify_image"]["results"][0]["labels"][0]["index"] == 657


def test_the_pipeline_of_the_suite_tells_a_picture(suite: Suite) -> None:
    method = "maas.gateway.v1.GatewayService/RunPipeline"
    request = {"name": "describe", "inputs": {"picture": {"image": picture("chelsea.png")}}}
    labels, text = answer(suite, method, request)["results"]
    assert labels["classify_image"]["results"][0]["labels"][0]["index"] == 282
    told = text["generate"]["completions"][0]["text"]
    assert "cat" in told
    assert [result["cache"] for result in answer(suite, method, request)["results"]] == ["hit-l1"] * 2
    shown = called(suite, "pipeline", "describe", "--image", f"picture={PICTURES / 'chelsea.png'}", "--json")
    assert json.loads(shown)["results"][1]["generate"]["completions"][0]["text"] == told
    listed = called(suite, "pipeline", "--json")
    assert {"picture", "question"} < json.loads(listed)["pipelines"][0]["inputs"].keys()


def called(suite: Suite, *arguments: str) -> str:
    """What `maas call` prints."""
    command = [sys.executable, "-m", "cli", "call", *arguments, "--address", suite.address()]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_one_list_of_all_models_and_the_status(suite: Suite) -> None:
    models = answer(suite, "maas.model.v1.ModelService/ListModels", {})["models"]
    serving = {(m["service"], m["name"]) for m in models if m["state"] == "MODEL_STATE_SERVING"}
    assert {
        ("tokenization", "smollm2-135m-instruct"),
        ("tokenization", "gpt2-bpe"),
        ("tokenization", "minilm-l6-v2"),
        ("tokenization", "mistral-spm"),
        ("vision", "efficientnet-lite0"),
        ("vision", "mnist-cnn"),
        ("sequence", "silero-vad"),
        ("sequence", "g2p-en"),
        ("sequence", "minilm-l6-v2"),
        ("generation", "smollm2-135m-instruct"),
    } <= serving
    status = answer(suite, "maas.gateway.v1.GatewayService/GetStatus", {})
    assert {b["health"] for b in status["backends"]} == {"SERVING"}
    assert status["cache"]["redis"] == "connected"
