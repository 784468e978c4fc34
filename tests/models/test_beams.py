"""Beam search against that of `transformers`: the same tokens in the same order, with and without an end token."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from services.generation.engine.request import Request, SamplingParams, Sequence, Stopping
from services.generation.models.causal_lm import CausalLM
from services.runtime.store.store import ModelStore
from services.runtime.text import tokenizer
from tests.engine.tiny import collect, make_engine, text_sink
from tests.models.generation_checkpoints import saved
from tests.models.test_llama_smollm2 import ours, reference  # noqa: F401

SEARCHES = [  # beams, length penalty, tokens, completions
    (2, 1.0, 12, 1),
    (4, 1.0, 20, 4),
    (4, 0.0, 20, 2),
    (4, -2.0, 16, 4),
    (3, 2.5, 24, 3),
    (8, 0.6, 10, 8),
    (5, 1.0, 1, 5),
]


def expected(
    net: Any, prompt: list[int], beams: int, penalty: float, tokens: int, n: int, ends: list[int], **rules: Any
) -> list[list[int]]:
    """Outputs of `transformers`, cut after their end token."""
    net.generation_config.eos_token_id = None  # else it stands in for an absent one
    with torch.no_grad():
        rows = net.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            generation_config=transformers.GenerationConfig(
                num_beams=beams,
                length_penalty=penalty,
                max_new_tokens=tokens,
                num_return_sequences=n,
                early_stopping=False,
                do_sample=False,
                eos_token_id=ends or None,
                pad_token_id=0,
                renormalize_logits=True,  # scores are those of the changed distribution
                **rules,
            ),
        )
    return [cut(row[len(prompt) :].tolist(), ends) for row in rows]


def cut(tokens: list[int], ends: list[int]) -> list[int]:
    places = [place for place, token in enumerate(tokens) if token in ends]
    return tokens[: places[0] + 1] if places else tokens


def found(
    net: CausalLM,
    prompt: list[int],
    beams: int,
    penalty: float,
    tokens: int,
    n: int,
    ends: list[int],
    held: int = 0,
) -> list[list[int]]:
    request = Request(
        tuple(prompt),
        SamplingParams(num_beams=beams, length_penalty=penalty),
        Stopping(max_tokens=tokens, min_tokens=held, eos_token_ids=frozenset(ends)),
    )
    outputs = [Sequence(request, index, text_sink()) for index in range(n)]
    engine = make_engine(net, num_blocks=400)
    engine.add(outputs)
    return [result.tokens for result in collect(engine, outputs)]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def frequent(net: CausalLM, prompt: list[int], count: int) -> list[int]:
    """Tokens that the beams of `prompt` are likely to meet."""
    (free,) = found(net, prompt, 4, 1.0, 14, 1, [])
    return list(dict.fromkeys(free[4:]))[:count]


@pytest.mark.parametrize("ends", [0, 1, 3])
@pytest.mark.parametrize("kind", ["LlamaForCausalLM", "GPT2LMHeadModel"])
def test_the_same_tokens(kind: str, ends: int, tmp_path: Path) -> None:
    theirs, net = saved(kind, tmp_path)
    draw = torch.Generator().manual_seed(2)
    early = 0
    for place, (beams, penalty, tokens, n) in enumerate(SEARCHES):
        prompt = torch.randint(0, 128, (1 + 9 * place,), generator=draw).tolist()
        stops = frequent(net, prompt, ends)
        for held in (0, 3) if stops and tokens > 3 else (0,):
            rules = {"min_new_tokens": held} if held else {}
            wanted = expected(theirs, prompt, beams, penalty, tokens, n, stops, **rules)
            got = found(net, prompt, beams, penalty, tokens, n, stops, held)
            assert got == wanted, (beams, penalty, tokens, n, held)
            early += any(len(row) < tokens for row in got)
    assert not ends or early, "no search ended early"


@pytest.mark.models
def test_smollm2(ours: CausalLM, reference: Any, model_store: ModelStore) -> None:  # noqa: F811
    manifest = model_store.resolve("smollm2-135m-instruct")
    words = tokenizer.load(manifest, model_store.directory(manifest))
    for text, beams, penalty in (("The capital of France is", 4, 1.0), ("Once upon a time", 3, 0.0)):
        prompt = words.encode_ids(text)
        wanted = expected(reference, prompt, beams, penalty, 10, 2, [2, 28])
        assert found(ours, prompt, beams, penalty, 10, 2, [2, 28]) == wanted
