"""SmolLM2-135M-Instruct from the store: our logits against `transformers` on the same weights."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from services.generation.models import registry
from services.generation.models.causal_lm import CausalLM
from services.runtime.store.store import ModelStore
from services.runtime.text import tokenizer
from tests.engine.tiny import make_engine, run, sequence

pytestmark = pytest.mark.models

TEXT = """The history of computing is longer than that of the machines we call computers today. People have
always looked for tools that count, sort and remember, and each age built them from what it had at hand: pebbles,
gears, relays, valves and at last silicon. What changed was not the wish but the speed."""


@pytest.fixture(scope="module")
def ids(model_store: ModelStore) -> list[int]:
    manifest = model_store.resolve("smollm2-135m-instruct")
    return tokenizer.load(manifest, model_store.directory(manifest)).encode_ids(TEXT)[:64]


@pytest.fixture(scope="module")
def ours(model_store: ModelStore) -> Iterator[CausalLM]:
    torch.set_num_threads(1)
    manifest = model_store.resolve("smollm2-135m-instruct")
    yield registry.load(manifest, model_store.directory(manifest))


@pytest.fixture(scope="module")
def reference(model_store: ModelStore) -> Any:
    manifest = model_store.resolve("smollm2-135m-instruct")
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**manifest.config)).eval()
    missing, unexpected = model.load_state_dict(
        load_file(model_store.directory(manifest) / "model.safetensors"), strict=False
    )
    assert missing == ["lm_head.weight"] and not unexpected
    model.tie_weights()
    return model


def test_logits_agree_over_64_positions(ours: CausalLM, reference: Any, ids: list[int]) -> None:
    assert len(ids) == 64
    with torch.no_grad():
        expected = reference(torch.tensor([ids])).logits
        torch.testing.assert_close(ours(torch.tensor([ids])), expected, atol=1e-3, rtol=0)


@pytest.mark.slow
def test_greedy_text_at_batch_8_equals_batch_1(ours: CausalLM, ids: list[int]) -> None:
    def work() -> list[Any]:
        return [sequence(ids[: 3 + 7 * place], max_tokens=12) for place in range(8)]

    alone = [run(make_engine(ours), [one])[0] for one in work()]
    together = run(make_engine(ours), work())
    assert [(r.tokens, r.logprob) for r in alone] == [(r.tokens, r.logprob) for r in together]
