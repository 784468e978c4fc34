"""Generated stubs and grpcio alone: `python python_stubs.py ADDRESS`. A call, a stream, a session, an error."""

import sys
from collections.abc import Iterator

import grpc
from google.rpc import error_details_pb2, status_pb2

from maas.generation.v1 import generation_service_pb2 as generation
from maas.generation.v1.generation_service_pb2_grpc import GenerationServiceStub
from maas.sequence.v1 import sequence_service_pb2 as sequence
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub
from maas.tokenization.v1 import tokenization_service_pb2 as tokenization
from maas.tokenization.v1.tokenization_service_pb2_grpc import TokenizationServiceStub


def steps() -> Iterator[sequence.RunSessionRequest]:
    yield sequence.RunSessionRequest(open={})
    for number in (1, 2):
        yield sequence.RunSessionRequest(step={"step": number, "series": {"values": [0.0] * 512}})
    yield sequence.RunSessionRequest(close=True)


def main(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        tokens, texts = TokenizationServiceStub(channel), GenerationServiceStub(channel)
        reply = tokens.Tokenize(tokenization.TokenizeRequest(texts=["Hello world!"]), timeout=10)
        print("ids", list(reply.encodings[0].ids), "by", reply.served_by.model)

        chat = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
        for part in texts.GenerateStream(generation.GenerateStreamRequest(chat=chat), timeout=60):
            print(part.text_delta, end="", flush=True)
        print()

        for answer in SequenceServiceStub(channel).RunSession(steps(), timeout=30):
            print("session", answer.WhichOneof("message"))

        try:
            texts.Generate(generation.GenerateRequest(text="hi", sampling={"temperature": -1}), timeout=10)
        except grpc.RpcError as error:
            print("refused", error.code().name, *violations(error))


def violations(error: grpc.RpcError) -> list[str]:
    """The broken rules that an error's details name."""
    found = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    bad = error_details_pb2.BadRequest()
    return [
        f"{one.field} {one.description}"
        for detail in found.details
        if detail.Unpack(bad)
        for one in bad.field_violations
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
