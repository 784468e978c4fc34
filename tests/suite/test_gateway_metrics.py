"""What a gateway tells of its calls to the services: tries and whole calls, by the names of gRFC A66."""

import re

from prometheus_client import generate_latest

from gateway.__main__ import build
from maas.generation.v1 import generation_service_pb2, generation_service_pb2_grpc
from maas.vision.v1 import vision_service_pb2, vision_service_pb2_grpc
from services.runtime.errors import Unavailable
from tests.harness import running
from tests.suite.gateway_fakes import behind, settings, started

CLASSIFY = "maas.vision.v1.VisionService/Classify"
STREAM = "maas.generation.v1.GenerationService/GenerateStream"


async def test_tries_and_calls_are_told_by_target_and_status() -> None:
    good, bad, writer = behind("vision"), behind("vision"), behind("generation")
    bad.failure = Unavailable("not today")
    async with started(good, bad, writer) as found:
        pair = f"{found[0].address},{found[1].address}"
        chosen = settings({"vision": pair, "generation": found[2].address}, coalesce=False)
        async with running(chosen, build) as (channel, floor):
            asked = vision_service_pb2.ClassifyRequest(images=[{"encoded": b"1234"}])
            headers = (("cache-control", "no-store"),)
            replies = [
                await vision_service_pb2_grpc.VisionServiceStub(channel).Classify(asked, metadata=headers)
                for _ in range(4)
            ]
            stub = generation_service_pb2_grpc.GenerationServiceStub(channel)
            request = generation_service_pb2.GenerateStreamRequest(text="abc")
            streamed = [message async for message in stub.GenerateStream(request)]
            told = generate_latest(floor.metrics.registry).decode()

    def value(name: str, method: str, target: str, status: str = "") -> float:
        end = f',grpc_status="{status}"' if status else ""
        line = f'{name}{{grpc_method="{method}"{end},grpc_target="{target}"}}'
        plain = f'{name}{{grpc_method="{method}",grpc_target="{target}"{end}}}'
        match = re.search(rf"^(?:{re.escape(line)}|{re.escape(plain)}) (\S+)$", told, re.M)
        return float(match[1]) if match else 0.0

    both = f"dns:///{found[0].address},dns:///{found[1].address}"
    count = "grpc_client_attempt_duration_seconds_count"
    assert value("grpc_client_call_duration_seconds_count", CLASSIFY, both, "OK") == len(replies) == 4
    assert value(count, CLASSIFY, both, "OK") == 4
    failed = value(count, CLASSIFY, both, "UNAVAILABLE")
    assert failed >= 1, "a replica that refuses was tried, and then the other one"
    assert value("grpc_client_attempt_started_total", CLASSIFY, both) == 4 + failed
    size = "grpc_client_attempt_rcvd_total_compressed_message_size_bytes_sum"
    assert value(size, CLASSIFY, both, "OK") == sum(reply.ByteSize() for reply in replies)
    one = f"dns:///{found[2].address}"
    assert value(size, STREAM, one, "OK") > sum(len(message.text_delta) for message in streamed) > 0
    assert value(size.replace("rcvd", "sent"), STREAM, one, "OK") > 0
