"""The parts of a batch add up to the batch, however uneven; a process alone needs no others."""

import pytest
import torch

from training.distributed import Team, joined, present


@pytest.mark.parametrize(("rows", "size"), [(8, 2), (7, 2), (5, 3), (1, 2), (2, 5)])
def test_shares_of_a_batch_add_up_to_its_mean(rows: int, size: int) -> None:
    order = torch.randperm(rows)
    losses = torch.rand(rows)
    parts = [Team(rank, size).share(order) for rank in range(size)]
    assert torch.cat([mine for mine, share in parts if share]).tolist() == order.tolist()
    assert all(len(mine) for mine, _ in parts)
    assert sum(share for _, share in parts) == pytest.approx(1)
    assert sum(share * losses[mine].mean() for mine, share in parts).item() == pytest.approx(losses.mean().item())


def test_a_process_alone() -> None:
    net = torch.nn.Linear(2, 1)
    with joined() as team, team.first_of_machine():
        assert team == present() == Team()
        assert team.leads and team.joined(net) is net
        assert team.agreed(0.5, True, False) == (0.5, True, False)
        assert team.from_leader(lambda: "made") == "made"
        assert team.gathered(3) == [3]


def test_only_cuda_is_shared_out() -> None:
    team = Team(rank=5, size=8, local_rank=1)
    assert [team.device(name) for name in ("cpu", "cuda", "cuda:3")] == ["cpu", "cuda:1", "cuda:3"]
    assert not team.leads
