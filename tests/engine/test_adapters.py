"""Adapters: a row computes what the net with the adapter merged into it would, whoever shares its batch."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from services.generation.engine.adapter import Adapter
from services.generation.engine.request import Request, SamplingParams, Sequence, Stopping
from services.generation.engine.runner import Runner
from services.generation.engine.step import Chunk, Step
from services.generation.models import registry
from services.generation.models.causal_lm import CausalLM
from services.generation.models.low_rank import FILE, Changes, LowRank, linear_layers, load, merged, save, sizes
from services.runtime.errors import PreconditionFailed
from tests.engine.test_kernels import SHAPES, net_of, prompt, sets
from tests.engine.tiny import VOCAB, Int8, Result, make_engine, run, sequence, text_sink, tiny_model

WARM = SamplingParams(temperature=1.0, top_p=0.9)
KINDS = ["llama", "qwen2", "qwen3", "wide head", "gpt2"]
FEW = ("q_proj", "v_proj", "c_attn", "up_proj", "c_fc")


def changes_of(net: CausalLM, seed: int, rank: int = 4, only: tuple[str, ...] = (), size: float = 0.3) -> Changes:
    """Random pairs, of the named layers or of all."""
    draw = torch.Generator().manual_seed(seed)
    pairs = {}
    for name, layer in linear_layers(net):
        if not only or name.endswith(only):
            outputs, inputs = sizes(layer)
            down = torch.randn(rank, inputs, generator=draw) * size / inputs**0.5
            pairs[name] = LowRank(down, torch.randn(outputs, rank, generator=draw) * size)
    return pairs


def merged_net(kind: str, net: CausalLM, changes: Changes) -> CausalLM:
    other = registry.build(*SHAPES[kind]).eval().requires_grad_(False)
    other.load_state_dict(merged(net, changes))
    return other


def adapter_of(runner: Runner, changes: Changes, digest: str = "it") -> Adapter:
    return Adapter(digest, runner.adapted(lambda _: changes))


def logits(runner: Runner, changes: Changes | None, tokens: list[int]) -> Tensor:
    """Of every token of one sequence, all in one pass."""
    adapter = None if changes is None else adapter_of(runner, changes)
    one = Sequence(Request(tuple(tokens), adapter=adapter), 0, text_sink())
    one.blocks = list(range(1, 2 + len(tokens) // 16))
    with torch.inference_mode():
        computed = runner.run(Step((Chunk(one, 0, len(tokens)),)))
        found = torch.stack([row.logits.clone() for row in runner.logits(computed, range(len(tokens)))])
    runner.close()
    return found


@pytest.mark.parametrize("only", [(), FEW], ids=["all", "few"])
@pytest.mark.parametrize("kind", KINDS)
def test_in_full_precision_it_is_the_merged_net(kind: str, only: tuple[str, ...]) -> None:
    net, tokens = net_of(kind), prompt()
    changes = changes_of(net, 1, only=only)
    expected = merged_net(kind, net, changes)(torch.tensor([tokens]))[0]
    found = logits(make_engine(net).runner, changes, tokens)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (expected - net(torch.tensor([tokens]))[0]).abs().max() > 0.1  # it does change something


EIGHT_BITS = [(kind, sets()[0]) for kind in KINDS] + [("llama", isa) for isa in sets()[1:]]


@pytest.mark.parametrize(("rank", "only"), [(40, ()), (3, FEW)], ids=["all", "few"])
@pytest.mark.parametrize(("kind", "isa"), EIGHT_BITS)
def test_in_eight_bits_it_is_as_near_as_the_merged_net(
    kind: str, only: tuple[str, ...], rank: int, isa: str, tmp_path: Path
) -> None:
    net, tokens = net_of(kind), prompt()
    changes = changes_of(net, 1, rank, only)
    whole = merged_net(kind, net, changes)
    exact = whole(torch.tensor([tokens]))[0]
    (tmp_path / "merged").mkdir()
    rounded = logits(Int8.of(whole, tmp_path / "merged").runner(16), None, tokens)
    int8 = Int8.of(net, tmp_path)
    found = logits(Int8(int8.packed, int8.net, isa=isa).runner(16), changes, tokens)
    assert (found - exact).abs().mean() < 1.5 * (rounded - exact).abs().mean()
    assert (found - exact).abs().mean() < 0.3 * (exact - net(torch.tensor([tokens]))[0]).abs().mean()


@pytest.fixture(scope="module")
def adapters(model: CausalLM | Int8) -> list[Adapter | None]:
    """None, and three of different ranks and layers; the tiny net takes them without losing its head."""
    net = tiny_model()
    runner = make_engine(model).runner
    made = [changes_of(net, 1), changes_of(net, 2, rank=7, only=FEW), changes_of(net, 3, rank=33)]
    return [None, *(adapter_of(runner, changes, f"adapter {n}") for n, changes in enumerate(made))]


def workload(adapters: list[Adapter | None], count: int = 12) -> list[Sequence]:
    """Greedy and seeded sequences; every third prompt is the same, by turns with and without an adapter."""
    draw = torch.Generator().manual_seed(4)
    common = torch.randint(VOCAB, (40,), generator=draw).tolist()
    prompts = [
        common if n % 3 == 0 else torch.randint(VOCAB, (5 + 9 * n,), generator=draw).tolist() for n in range(count)
    ]
    return [
        sequence(tokens, WARM if n % 2 else SamplingParams(), seed=n, adapter=adapters[n % 4], max_tokens=12 + n)
        for n, tokens in enumerate(prompts)
    ]


def told(results: list[Result]) -> list[tuple[list[int], float]]:
    return [(result.tokens, result.logprob) for result in results]


def test_three_adapters_and_none_in_one_batch_equal_lone_runs(
    model: CausalLM | Int8, adapters: list[Adapter | None]
) -> None:
    expected = [told(run(make_engine(model), [one]))[0] for one in workload(adapters)]
    both = Int8(model.packed, model.net, threads=2) if isinstance(model, Int8) else model
    assert told(run(make_engine(both, num_blocks=300), workload(adapters))) == expected
    chunked = make_engine(both, num_blocks=20, max_batch_tokens=23)
    assert told(run(chunked, workload(adapters))) == expected
    assert chunked.scheduler.preemptions > 0


def test_each_adapter_says_something_else(model: CausalLM | Int8, adapters: list[Adapter | None]) -> None:
    said = [run(make_engine(model), [sequence(prompt(), adapter=one)])[0].tokens for one in adapters]
    assert len(set(map(tuple, said))) == 4


def test_blocks_of_one_adapter_are_never_taken_for_another(
    model: CausalLM | Int8, adapters: list[Adapter | None]
) -> None:
    engine = make_engine(model, num_blocks=300)
    for adapter in adapters:
        first, again = (sequence(prompt(), adapter=adapter) for _ in range(2))
        alone = told(run(make_engine(model), [sequence(prompt(), adapter=adapter)]))
        assert told(run(engine, [first])) == told(run(engine, [again])) == alone
        assert (first.cached_tokens, again.cached_tokens) == (0, 64)
    mixed = [sequence(prompt()[:50], adapter=adapter) for adapter in adapters]
    assert told(run(engine, mixed)) == [
        told(run(make_engine(model), [sequence(prompt()[:50], adapter=adapter)]))[0] for adapter in adapters
    ]
    assert [one.cached_tokens for one in mixed] == [48] * 4


def test_equal_digests_share_blocks_under_equal_salts_alone() -> None:
    one, same, other = Adapter("a", None), Adapter("a", None), Adapter("b", None)
    salts = [
        Request((1,), stopping=Stopping(), salt=salt, adapter=a).block_salt
        for salt, a in ((b"", one), (b"", same), (b"", other), (b"x", one), (b"", None), (b"x", None))
    ]
    assert salts[0] == salts[1] and len(set(salts)) == 5


@pytest.mark.parametrize("sampling", [SamplingParams(), WARM, SamplingParams(num_beams=2)])
def test_numbers_that_overflow_end_their_own_request_alone(
    model: CausalLM | Int8, sampling: SamplingParams
) -> None:
    changes = changes_of(tiny_model(), 1)
    endless = {name: LowRank(pair.down, torch.full_like(pair.up, 1e38)) for name, pair in changes.items()}
    engine = make_engine(model, num_blocks=9)
    huge = adapter_of(engine.runner, endless, "huge")
    (broken,) = run(engine, [sequence(prompt(), sampling, adapter=huge)])
    assert not broken.tokens and isinstance(broken.deltas[-1].error, PreconditionFailed)
    engine.scheduler.pool.forget()  # so that the blocks are taken again
    (after,) = told(run(engine, [sequence(prompt()[:37], max_tokens=90)]))
    assert [after] == told(run(make_engine(model), [sequence(prompt()[:37], max_tokens=90)]))


def test_scores_that_are_not_numbers_are_not_told(model: CausalLM | Int8) -> None:
    engine = make_engine(model)
    changes = changes_of(tiny_model(), 1)
    endless = {name: LowRank(pair.down, torch.full_like(pair.up, 1e38)) for name, pair in changes.items()}
    request = Request(
        tuple(prompt()),
        stopping=Stopping(max_tokens=0),
        prompt_logprobs=0,
        adapter=adapter_of(engine.runner, endless, "huge"),
    )
    (broken,) = run(engine, [Sequence(request, 0, text_sink())])
    assert isinstance(broken.deltas[-1].error, PreconditionFailed) and not request.prompt_scores


@pytest.mark.parametrize("scale", [float("inf"), 1e39, float("nan")])
def test_pairs_that_are_not_finite_are_refused(scale: float, tmp_path: Path) -> None:
    net = tiny_model()
    pairs = {name: (pair.down, pair.up) for name, pair in changes_of(net, 1).items()}
    save(tmp_path / FILE, pairs, "model.")
    renames = registry.renames("LlamaForCausalLM")
    assert load(tmp_path / FILE, net, renames, 1.0).keys() == pairs.keys()
    with pytest.raises(PreconditionFailed, match="not finite"):
        load(tmp_path / FILE, net, renames, scale)


def test_pairs_of_no_rank_are_refused(tmp_path: Path) -> None:
    net = tiny_model()
    pairs = {name: (pair.down[:0], pair.up[:, :0]) for name, pair in changes_of(net, 1).items()}
    save(tmp_path / FILE, pairs, "model.")
    with pytest.raises(PreconditionFailed, match="rank 1 or more"):
        load(tmp_path / FILE, net, registry.renames("LlamaForCausalLM"), 1.0)
