"""Passes replayed on padded buffers equal passes computed as they come, to the bit in fp32. The recording itself
needs CUDA; here it is one that computes anew from the same buffers."""

import random

import pytest
import torch
from torch import Tensor

from services.generation.engine import graphs
from services.generation.engine.graphs import Forward, padded
from services.generation.engine.inputs import Layout, Span
from services.generation.engine.kv_cache import KVCache
from services.generation.engine.request import Sequence
from services.generation.engine.runner import ModelRunner
from services.generation.engine.step import Chunk, Step
from services.generation.models.causal_lm import CausalLM
from tests.engine.test_adapters import adapter_of, changes_of
from tests.engine.test_batching import same, workload
from tests.engine.tiny import VOCAB, Foretold, make_engine, run, sequence, tiny_model

BLOCKS, BLOCK = 400, 16


class Recorder:
    """Counts what is recorded and replayed."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, forward: Forward) -> Forward:
        self.recorded += 1

        def replay() -> Tensor:
            self.replayed += 1
            return forward()

        return replay


def runner(model: CausalLM, recorder: graphs.Record | None) -> ModelRunner:
    return ModelRunner(model, KVCache(model.config, BLOCKS, BLOCK), recorder)


def contexts(lengths: list[int], draw: random.Random) -> list[Sequence]:
    """Sequences of so many random tokens, in blocks of their own in random order."""
    free = draw.sample(range(1, BLOCKS), BLOCKS - 1)
    found = [sequence([draw.randrange(VOCAB) for _ in range(length)]) for length in lengths]
    for one in found:
        one.blocks = [free.pop() for _ in range(-(-len(one.tokens) // BLOCK))]
    return found


def decoded(runner: ModelRunner, ones: list[Sequence]) -> Tensor:
    """The hidden state of each sequence's last token, computed after the others, in the sequences' order."""
    runner.run(Step(tuple(Chunk(one, 0, len(one.tokens) - 1) for one in ones if len(one.tokens) > 1)))
    computed = runner.run(Step(tuple(Chunk(one, len(one.tokens) - 1, 1) for one in ones)))
    order = [id(chunk.sequence) for chunk in computed.chunks]
    return torch.stack([computed.hidden[computed.ends[order.index(id(one))] - 1] for one in ones])


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "GPT2LMHeadModel"])
@pytest.mark.parametrize("batch", [1, 2, 3, 7, 12])
def test_a_padded_pass_has_the_bits_of_one_as_it_comes(batch: int, architecture: str) -> None:
    model, draw = tiny_model(architecture=architecture), random.Random(batch)
    recorder = Recorder()
    eager, replaying = runner(model, None), runner(model, recorder)
    for _ in range(4):
        ones = contexts([draw.randint(2, 400) for _ in range(batch)], draw)
        assert torch.equal(decoded(replaying, ones), decoded(eager, ones))
    assert recorder.replayed == 4 and 1 <= recorder.recorded <= 4


def test_what_others_left_in_the_blocks_does_not_matter() -> None:
    """Not even what is no number: behind each end, in the null block, and in tables longer than a context."""
    model, draw = tiny_model(), random.Random(1)
    eager, replaying = runner(model, None), runner(model, Recorder())
    for tensor in (*eager.cache.values, *replaying.cache.values, *eager.cache.keys, *replaying.cache.keys):
        tensor.fill_(torch.nan)
    ones = contexts([5, 70, 130], draw)
    found = decoded(replaying, ones)
    assert torch.equal(found, decoded(eager, ones)) and found.isfinite().all()


def test_texts_with_graphs_are_the_texts_without() -> None:
    model, recorder = tiny_model(), Recorder()
    engine = make_engine(model, num_blocks=BLOCKS)
    expected = run(engine, workload(12))
    engine = make_engine(model, num_blocks=BLOCKS)
    engine.runner = runner(model, recorder)
    assert same(expected, run(engine, workload(12)))
    assert recorder.recorded < recorder.replayed / 4 and recorder.replayed > engine.steps / 2


def test_prompts_drafts_and_adapters_are_computed_as_they_come() -> None:
    model, recorder = tiny_model(), Recorder()
    replaying = runner(model, recorder)
    adapter = adapter_of(replaying, changes_of(model, 1))
    (plain,), (other,) = contexts([9], random.Random(2)), [sequence(range(9), adapter=adapter)]
    other.blocks = [BLOCKS - 1]
    for chunks in (
        [Chunk(plain, 0, 8)],
        [Chunk(plain, 8, 2, drafts=(3,))],
        [Chunk(plain, 8, 1), Chunk(other, 8, 1)],
    ):
        replaying.run(Step(tuple(chunks)))
    assert recorder.recorded == 0
    replaying.run(Step((Chunk(plain, 8, 1),)))
    assert recorder.recorded == 1


def test_with_drafts_the_texts_are_the_same() -> None:
    model = tiny_model()
    prompt = list(range(30))
    (expected,) = run(make_engine(model), [sequence(prompt)])
    engine, one = make_engine(model), sequence(prompt)
    engine.runner, one.drafter = runner(model, Recorder()), Foretold(30, expected.tokens)
    assert same([expected], run(engine, [one])) and engine.accepted > 0


def test_shapes_are_powers_of_two() -> None:
    def of(lengths: list[int]) -> Layout:
        return padded([Chunk(one, len(one.tokens) - 1, 1) for one in contexts(lengths, random.Random(0))])

    assert of([64]) == Layout(4, (Span(0, 1, 1, 64),))
    assert of([65, 3, 9]) == Layout(4, (Span(0, 4, 1, 128),))
    assert of([257] + [2] * 8) == Layout(16, (Span(0, 16, 1, 512),))


def test_few_recordings_are_kept_the_longest_unused_going_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST_GRAPHS", 2)
    recorder, draw = Recorder(), random.Random(4)
    replaying = runner(tiny_model(), recorder)
    for lengths, recorded in (([9], 1), ([9, 9], 2), ([9], 2), ([9] * 4, 3), ([9], 3), ([9, 9], 4)):
        decoded(replaying, contexts(lengths, draw))
        assert recorder.recorded == recorded


def test_what_cannot_be_recorded_is_computed_as_it_comes(caplog: pytest.LogCaptureFixture) -> None:
    def full(forward: Forward) -> Forward:
        raise torch.OutOfMemoryError("no room")

    model, draw = tiny_model(), random.Random(5)
    ones = contexts([9, 80], draw)
    broken = runner(model, full)
    assert torch.equal(decoded(broken, ones), decoded(runner(model, None), ones))
    decoded(broken, ones)
    assert caplog.text.count("not recorded from now on") == 1
