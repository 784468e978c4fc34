"""Next-token training: causal, judged by the formula, able to learn a batch by heart, drawn from as served."""

import math

import pytest
import torch
import torch.nn.functional as F

from services.generation.models import registry
from services.generation.models.causal_lm import CausalLM
from services.runtime.errors import InvalidInput
from tests.engine.tiny import make_engine, run, sequence, tiny_model
from training.checkpoint import seed_everything
from training.language import TokenRows, initialise, judge, next_token_loss, unigram_cross_entropy
from training.sampling import sample

CONFIG = {
    "vocab_size": 50,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 16,
    "tie_word_embeddings": False,
}
IDS = torch.randint(0, 50, (131,), generator=torch.Generator().manual_seed(5))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Products this small are slower on two."""
    torch.set_num_threads(1)


def fresh() -> CausalLM:
    seed_everything(1)
    net = registry.build("GPT2LMHeadModel", CONFIG)
    initialise(net)
    return net


def test_rows_cover_the_stream_once_or_as_often_as_wished() -> None:
    rows = TokenRows(IDS, 16)
    assert len(rows) == 8
    taken = rows.take(torch.arange(8))
    assert torch.equal(taken[:, :-1].flatten(), IDS[:128])
    assert torch.equal(taken[:, 1:].flatten(), IDS[1:129])
    again = TokenRows(IDS, 16, 20)
    assert len(again) == 20 and torch.equal(again.take(torch.tensor([17])), taken[1:2])
    assert TokenRows(IDS[:5], 16).take(torch.tensor([0])).tolist() == [IDS[:5].tolist()]
    with pytest.raises(InvalidInput, match="2 tokens to train on"):
        TokenRows(IDS[:2], 16)


def test_a_fresh_net_knows_nothing_and_one_batch_is_learnt_by_heart() -> None:
    net, batch = fresh(), TokenRows(IDS, 16).take(torch.arange(4))
    assert float(next_token_loss(net, batch).detach()) == pytest.approx(math.log(50), abs=0.1)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = next_token_loss(net, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert float(loss.detach()) < 0.1


def test_no_token_sees_what_it_has_to_predict() -> None:
    net, row = fresh().eval(), IDS[:17].clone()
    before, _ = judge(net, row, 16)
    row[10] = (row[10] + 1) % 50
    after, _ = judge(net, row, 16)
    assert (before[:9] == after[:9]).all() and (before[9:] != after[9:]).all()


def test_held_out_loss_is_the_mean_over_rows() -> None:
    net = fresh().eval()
    losses, hits = judge(net, IDS, 16)
    with torch.no_grad():
        wanted = [
            F.cross_entropy(net(IDS[None, at : at + 16])[0], IDS[at + 1 : at + 17]) for at in range(0, 128, 16)
        ]
        first = net(IDS[None, :16])[0].argmax(-1) == IDS[1:17]
    assert len(losses) == len(hits) == 130
    assert losses[:128].mean() == pytest.approx(float(torch.stack(wanted).mean()), rel=1e-5)
    assert hits[:16].tolist() == first.tolist()


@pytest.mark.parametrize("architecture", ["GPT2LMHeadModel", "LlamaForCausalLM"])
def test_greedy_samples_are_what_the_engine_serves(architecture: str) -> None:
    model = tiny_model(architecture=architecture)
    prompt = [5, 17, 3, 99, 42]
    first, second = sample(model, prompt, 25, 2, 0.0, seed=0)
    served = run(make_engine(model), [sequence(prompt, max_tokens=20)])[0]
    assert first == second == [*prompt, *served.tokens]


def test_samples_follow_their_seed_and_end_where_positions_do() -> None:
    net = fresh()
    one = sample(net, [1, 2], 99, 3, 1.0, seed=4)
    assert one == sample(net, [1, 2], 99, 3, 1.0, seed=4) != sample(net, [1, 2], 99, 3, 1.0, seed=5)
    assert {len(row) for row in one} == {16} and one[0] != one[1]


def test_frequencies_alone_cost_what_the_counts_say() -> None:
    train, test = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 2])
    wanted = -(math.log(4 / 7) + math.log(2 / 7) + math.log(1 / 7)) / 3
    assert unigram_cross_entropy(train, test, 3) == pytest.approx(wanted)
