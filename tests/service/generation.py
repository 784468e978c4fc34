"""A tiny random language model in a store, its service, and what tests ask of them."""

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import torch
from google.rpc import error_details_pb2
from grpc import aio
from safetensors.torch import save_file

from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1 import generation_service_pb2 as service_pb
from maas.generation.v1.generation_service_pb2_grpc import (
    GenerationServiceStub as Stub,
)
from services.generation.adapters import TASK
from services.generation.engine.engine import Engine
from services.generation.model import GenerationModel
from services.generation.models import registry
from services.generation.models.causal_lm import CausalLM
from services.runtime.host import ModelHost
from services.runtime.status import status_of
from services.runtime.store.store import ModelStore
from services.runtime.text.tokenizer import Tokenizer
from tests.unit.runtime.text.made import CHATML, byte_level, from_library

CONTEXT = 200
TEXT = "the quick brown fox, héllo 日本語"
NAMED = {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>", "chat_template": CHATML}
CONFIG = {
    "vocab_size": 400,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": True,
}
WARM = pb.Sampling(temperature=1.5, seed=7)

Ask = service_pb.GenerateRequest


def net(config: dict[str, Any] = CONFIG, seed: int = 3) -> CausalLM:
    torch.manual_seed(seed)
    model = registry.build("LlamaForCausalLM", config).eval().requires_grad_(False)
    for weight in model.parameters():
        weight.data += torch.randn_like(weight) * 0.3
    return model


def publish(
    store: ModelStore, name: str, config: dict[str, Any] = CONFIG, seed: int = 3, **tokenizer: Any
) -> CausalLM:
    """The net and its tokenizer, of which `tokenizer` names the special tokens."""
    made = net(config, seed)
    with store.publish(name) as draft:
        (draft.directory / "tokenizer.json").write_text(byte_level().to_str())
        weights = {f"model.{key}": value for key, value in made.state_dict().items()}
        save_file(weights, draft.directory / "model.safetensors")
        draft.fields.update(
            tasks=["generation.generate"],
            architecture="LlamaForCausalLM",
            config=config,
            runner="engine",
            tokenizer={"file": "tokenizer.json"} | tokenizer,
        )
    return made


@dataclass
class Served:
    """A running service and what lies behind it."""

    channel: aio.Channel
    host: ModelHost[GenerationModel]

    @property
    def stub(self) -> Stub:
        return Stub(self.channel)

    @property
    def model(self) -> GenerationModel:
        with self.host.lease("tiny", "", TASK) as found:
            return found

    @property
    def engine(self) -> Engine:
        return self.model.worker.engine


def words() -> Tokenizer:
    return from_library(byte_level(), **NAMED)


def free(tokens: int = 24, **stopping: Any) -> pb.Stopping:
    return pb.Stopping(max_tokens=tokens, ignore_eos=True, **stopping)


def streamed(request: Ask) -> service_pb.GenerateStreamRequest:
    """The same request for GenerateStream."""
    copied = {field.name: value for field, value in request.ListFields()}
    return service_pb.GenerateStreamRequest(**copied)


async def joined(
    stub: Stub, request: Ask
) -> tuple[list[service_pb.GenerateStreamResponse], dict[int, pb.Completion]]:
    """All messages of a stream, and what they join to."""
    messages = [message async for message in stub.GenerateStream(streamed(request))]
    whole: dict[int, pb.Completion] = {}
    for message in messages:
        one = whole.setdefault(message.index, pb.Completion(index=message.index))
        one.text += message.text_delta
        one.token_ids.extend(message.token_ids)
        one.logprobs.extend(message.logprobs)
        one.cumulative_logprob = message.cumulative_logprob
        if message.finish_reason:
            assert not one.finish_reason
            one.finish_reason = message.finish_reason
            if message.HasField("stop_match"):
                one.stop_match.CopyFrom(message.stop_match)
    return messages, whole


async def refusal(call: Any) -> tuple[grpc.StatusCode, list[str], str]:
    """Code, violated fields and text of a call that must fail."""
    with pytest.raises(aio.AioRpcError) as error:
        await call
    bad = error_details_pb2.BadRequest()
    for detail in status_of(error.value).details:
        detail.Unpack(bad)
    return error.value.code(), [one.field for one in bad.field_violations], error.value.details() or ""


async def idle(engine: Engine) -> int:
    """Waits until the engine has nothing to do; its steps then."""
    async with asyncio.timeout(10):
        while engine.busy:
            await asyncio.sleep(0)
    return engine.steps
