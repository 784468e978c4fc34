"""gRPC and gRPC-Web through the real Envoy: grpcurl as at the gateway, and a browser's frames byte by byte."""

import base64
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import skimage

from tests.suite.conftest import Suite
from tests.suite.envoy import Answer, Edge

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]

TOKENIZE = "/maas.tokenization.v1.TokenizationService/Tokenize"
STREAM = "/maas.generation.v1.GenerationService/GenerateStream"
ORIGIN = "http://localhost:5173"
# TokenizeRequest{texts: ["Hello world!"]}, and the ids in its answer, as they are on the wire.
HELLO = b"\x1a\x0cHello world!"
IDS = bytes.fromhex("e49801") + bytes.fromhex("8907") + b"\x11"


@pytest.fixture
def through(suite: Suite, front: Edge) -> Suite:
    """The suite's tools, pointed at Envoy."""
    return replace(suite, ports={"gateway": front.port})


def framed(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


def unframed(body: bytes) -> tuple[list[bytes], dict[str, str]]:
    """The messages of a gRPC-Web body, and its trailers."""
    messages, trailers = [], {}
    while body:
        kind, size = struct.unpack(">BI", body[:5])
        part, body = body[5 : 5 + size], body[5 + size :]
        if kind & 0x80:
            trailers = dict(line.split(":", 1) for line in part.decode().splitlines() if line)
        else:
            messages.append(part)
    return messages, {name.strip(): value.strip() for name, value in trailers.items()}


def web(front: Edge, path: str, message: bytes, *, text: bool = False) -> Answer:
    kind = "application/grpc-web-text" if text else "application/grpc-web+proto"
    body = base64.b64encode(framed(message)) if text else framed(message)
    return front.send(
        "POST", path, body, {"content-type": kind, "accept": kind, "x-grpc-web": "1", "origin": ORIGIN}
    )


def test_grpcurl_cannot_tell_it_from_the_gateway(through: Suite) -> None:
    """Reflection, a unary call, a stream and rich errors pass as they are."""
    found = through.grpcurl(TOKENIZE[1:], {"texts": ["Hello world!"]})
    assert found.messages[0]["encodings"][0]["ids"] == [19556, 905, 17]
    parts = through.grpcurl(STREAM[1:], {"text": "One two three", "stopping": {"max_tokens": 4}}).messages
    assert len(parts) > 1
    refused = through.grpcurl(STREAM[1:], {"text": "a", "sampling": {"top_p": 7}}).error
    assert "InvalidArgument" in refused
    assert "sampling.top_p" in refused
    assert "google.rpc.BadRequest" in refused
    assert through.grpcurl("grpc.health.v1.Health/Check", {"service": "maas.model/mnist-cnn"}).messages == [
        {"status": "SERVING"}
    ]


def test_a_session_of_many_messages_both_ways(through: Suite) -> None:
    ids = [{"ids": [19556]}, {"ids": [905]}, {"ids": [17]}]
    parts = through.grpcurl("maas.tokenization.v1.TokenizationService/DetokenizeStream", ids).messages
    assert "".join(part["text_delta"] for part in parts) == "Hello world!"
    assert parts[-1]["finished"]


@pytest.mark.slow
def test_tritonclient_infers(front: Edge) -> None:
    script = Path(__file__).with_name("triton_script.py")
    picture = Path(skimage.__file__).parent / "data" / "chelsea.png"
    command = [sys.executable, str(script), front.address, str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "class 282" in done.stdout, done.stdout + done.stderr


def test_grpc_web_in_bytes_and_in_base64(front: Edge) -> None:
    (message,), trailers = unframed(web(front, TOKENIZE, HELLO).body)
    assert trailers["grpc-status"] == "0"
    assert IDS in message
    coded = web(front, TOKENIZE, HELLO, text=True)
    assert coded.headers["content-type"].startswith("application/grpc-web-text")
    # Each part is base64 of its own: padding may stand in the middle.
    whole = b"".join(base64.b64decode(part + b"=" * (-len(part) % 4)) for part in coded.body.split(b"=") if part)
    assert IDS in unframed(whole)[0][0]


def test_grpc_web_streams(front: Edge) -> None:
    # GenerateStreamRequest{text: "One two three", stopping: {max_tokens: 7}}: asked by nobody else, as an answer
    # from memory comes as one message
    request = b"\x1a\x0dOne two three" + b"\x3a\x02\x08\x07"
    messages, trailers = unframed(web(front, STREAM, request).body)
    assert len(messages) > 1
    assert trailers["grpc-status"] == "0"


def test_grpc_web_errors_keep_their_details(front: Edge) -> None:
    # TokenizeRequest{model: "nope", texts: [""]}
    answer = web(front, TOKENIZE, b"\x0a\x04nope\x1a\x00")
    trailers = {**answer.headers, **unframed(answer.body)[1]}
    assert trailers["grpc-status"] == "5"
    details = base64.b64decode(trailers["grpc-status-details-bin"] + "==")
    assert b"google.rpc.ErrorInfo" in details
    assert b"MODEL_NOT_FOUND" in details


def test_a_page_may_call_from_the_origins_that_are_let_in(front: Edge) -> None:
    asks = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,x-grpc-web,x-api-key",
    }
    ok = front.send("OPTIONS", TOKENIZE, b"", {"origin": ORIGIN, **asks})
    assert ok.headers["access-control-allow-origin"] == ORIGIN
    assert {"x-grpc-web", "authorization", "x-api-key"} <= set(
        ok.headers["access-control-allow-headers"].split(", ")
    )
    other = front.send("OPTIONS", TOKENIZE, b"", {"origin": "https://elsewhere.example", **asks})
    assert "access-control-allow-origin" not in other.headers
    for answer in (web(front, TOKENIZE, HELLO), front.post("/v1/tokenization:tokenize", {}, origin=ORIGIN)):
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "grpc-status-details-bin" in answer.headers["access-control-expose-headers"]
