"""Adapters over a real server: by name and version, several at once, added while it runs."""

import asyncio
from typing import Any

import grpc
import pytest
import torch

from maas.generation.v1 import generation_service_pb2 as service_pb
from services.generation.models import low_rank, registry
from services.generation.models.causal_lm import CausalLM
from services.generation.models.low_rank import linear_layers, sizes
from services.runtime.store.manifest import Manifest, adapted_digest
from services.runtime.store.store import ModelStore
from tests.engine.tiny import make_engine, run, sequence
from tests.service.generation import CONFIG, NAMED, Ask, Served, free, joined, net, publish, refusal, words

SOON_S = 0.05
PROMPT = "the quick brown fox, héllo 日本語. " * 5


def pairs_of(model: CausalLM, seed: int, rank: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    return {
        name: (
            torch.randn(rank, sizes(layer)[1], generator=draw) * 0.1,
            torch.randn(sizes(layer)[0], rank, generator=draw),
        )
        for name, layer in linear_layers(model)
    }


def publish_adapter(store: ModelStore, name: str, seed: int, rank: int = 4, **config: Any) -> Manifest:
    with store.publish(name) as draft:
        low_rank.save(draft.directory / low_rank.FILE, pairs_of(net(), seed, rank), "model.")
        told = {"base": "tiny", "r": rank, "lora_alpha": 2 * rank} | config
        draft.fields.update(tasks=["generation.adapter"], runner="engine", config=told)
    assert draft.published is not None
    return draft.published


@pytest.fixture
def store(tmp_path: Any) -> ModelStore:
    torch.set_num_threads(1)
    made = ModelStore(tmp_path / "store")
    publish(made, "tiny", **NAMED)
    publish(made, "mute", eos_token="<|im_end|>")
    for seed, name in enumerate(("red", "green", "blue")):
        publish_adapter(made, name, seed)
    return made


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"store_poll_s": SOON_S}


def asked(adapter: str = "", **values: Any) -> Ask:
    return Ask(text=PROMPT, stopping=free(16), adapter=adapter or None, **values)


def ids(reply: service_pb.GenerateResponse) -> list[int]:
    return list(reply.completions[0].token_ids)


def expected(seed: int | None, rank: int = 4) -> list[int]:
    """Greedy tokens of the net with the adapter of this seed merged into it."""
    model = net()
    if seed is not None:
        pairs = pairs_of(model, seed, rank)
        changes = {name: low_rank.LowRank(down, 2 * up) for name, (down, up) in pairs.items()}
        state = low_rank.merged(model, changes)
        model = registry.build("LlamaForCausalLM", CONFIG).eval().requires_grad_(False)
        model.load_state_dict(state)
    return run(make_engine(model), [sequence(words().encode_ids(PROMPT), max_tokens=16)])[0].tokens


async def test_each_request_gets_its_adapter_all_in_one_batch(served: Served, store: ModelStore) -> None:
    names = {"": None, "red": 0, "green": 1, "blue": 2}
    replies = await asyncio.gather(*(served.stub.Generate(asked(name)) for name in names for _ in range(2)))
    wanted = [expected(seed) for seed in names.values() for _ in range(2)]
    assert [ids(reply) for reply in replies] == wanted
    assert len({tuple(tokens) for tokens in wanted}) == 4
    base = served.model.manifest.digest
    digests = [adapted_digest(base, store.resolve(name).digest) if name else base for name in names]
    assert [reply.served_by.digest for reply in replies[::2]] == digests
    _, whole = await joined(served.stub, asked("green"))
    assert list(whole[0].token_ids) == expected(1)
    # A block of one adapter is never found by another, one of its own always.
    assert (await served.stub.Generate(asked("red"))).usage.cached_prompt_tokens > 0


async def test_what_cannot_be_had_is_said(served: Served, store: ModelStore) -> None:
    code, _, text = await refusal(served.stub.Generate(asked("violet")))
    assert code is grpc.StatusCode.NOT_FOUND and "available: blue, green, red" in text
    code, _, text = await refusal(joined(served.stub, asked("@3")))
    assert code is grpc.StatusCode.NOT_FOUND and "available: blue, green, red" in text
    code, _, text = await refusal(served.stub.Generate(asked("red@7")))
    assert code is grpc.StatusCode.NOT_FOUND and "available: 1" in text and "red/7" in text
    code, fields, text = await refusal(served.stub.Generate(asked("mute")))
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["adapter"]) and "red" in text
    code, _, text = await refusal(served.stub.Generate(asked("red", model="mute")))
    assert code is grpc.StatusCode.FAILED_PRECONDITION and "'tiny', not for 'mute'" in text
    code, _, text = await refusal(served.stub.Generate(Ask(model="red", text=PROMPT)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "generation.adapter" in text
    assert ids(await served.stub.Generate(asked("red"))) == expected(0)


async def appeared(served: Served, name: str, version: int = 1) -> None:
    """Waits until calls mean this version of it."""
    async with asyncio.timeout(10):
        while served.host.serving_version(name) != version:
            await asyncio.sleep(SOON_S)


async def test_adapters_that_do_not_fit_are_refused_and_hurt_nobody(served: Served, store: ModelStore) -> None:
    publish_adapter(store, "odd", 5, base_weights="0" * 64)
    with store.publish("wide") as draft:
        wide = {"layers.0.self_attn.q_proj": (torch.ones(2, 31), torch.ones(32, 2))}
        low_rank.save(draft.directory / low_rank.FILE, wide, "model.")
        draft.fields.update(
            tasks=["generation.adapter"], runner="engine", config={"base": "tiny", "r": 2, "lora_alpha": 2}
        )
    await asyncio.gather(appeared(served, "odd"), appeared(served, "wide"))
    code, _, text = await refusal(served.stub.Generate(asked("odd")))
    assert code is grpc.StatusCode.FAILED_PRECONDITION and "other weights" in text
    for _ in range(2):
        code, _, text = await refusal(served.stub.Generate(asked("wide")))
        assert code is grpc.StatusCode.FAILED_PRECONDITION and f"(rank, {CONFIG['hidden_size']})" in text
    assert served.model.shelf.digests == []
    assert ids(await served.stub.Generate(asked("red"))) == expected(0)


async def test_an_adapter_is_added_and_replaced_without_a_restart(served: Served, store: ModelStore) -> None:
    first = await served.stub.Generate(asked("red"))
    publish_adapter(store, "late", 7)
    await appeared(served, "late")
    assert ids(await served.stub.Generate(asked("late"))) == expected(7)
    publish_adapter(store, "red", 8)
    await appeared(served, "red", 2)
    second = await served.stub.Generate(asked("red"))
    assert (ids(first), ids(second)) == (expected(0), expected(8))
    assert first.served_by.digest != second.served_by.digest
    old = await served.stub.Generate(asked("red@1"))
    assert (ids(old), old.served_by.digest) == (ids(first), first.served_by.digest)


class TestFew:
    """Two fit into memory."""

    @pytest.fixture
    def overrides(self) -> dict[str, Any]:
        return {"adapters_max": 2}

    async def test_the_longest_unused_goes(self, served: Served, store: ModelStore) -> None:
        digests = {name: store.resolve(name).digest for name in ("red", "green", "blue")}
        for name in ("red", "green", "red", "blue"):
            await served.stub.Generate(asked(name))
        assert served.model.shelf.digests == [digests["red"], digests["blue"]]
        assert ids(await served.stub.Generate(asked("green"))) == expected(1)

    async def test_what_is_in_use_stays_and_the_next_is_told_to_wait(
        self, served: Served, store: ModelStore
    ) -> None:
        for name in ("red", "green"):
            await served.stub.Generate(asked(name))
        shelf, digests = served.model.shelf, [store.resolve(name).digest for name in ("red", "green")]
        async with shelf.hold(digests[0], never_read), shelf.hold(digests[1], never_read):
            code, _, text = await refusal(served.stub.Generate(asked("blue")))
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and "MAAS_ADAPTERS_MAX" in text
            assert ids(await served.stub.Generate(asked("red"))) == expected(0)  # what is there is shared
        assert shelf.in_use == 0
        assert ids(await served.stub.Generate(asked("blue"))) == expected(2)


def never_read(net: CausalLM) -> low_rank.Changes:
    raise AssertionError("it is in memory")
