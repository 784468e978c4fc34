"""The processes of one run: who leads, whose rows are whose, what all must agree on. Knows no recipe.

`torchrun` starts the processes; gradients are averaged by DistributedDataParallel (Li et al. 2020,
arXiv:2006.15704) over gloo on CPU and NCCL on CUDA.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from services.runtime.errors import Unavailable

T = TypeVar("T")

# Others wait while the first one validates and evaluates; a lost one is noticed at once all the same.
MOST_WAIT = timedelta(hours=2)


class PeerLost(Unavailable):
    """Another process of the run ended before its time."""

    reason = "PEER_LOST"


@dataclass(frozen=True, slots=True)
class Team:
    """The processes of a run as one of them sees it; `Team()` is a process alone."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process validates, evaluates, writes and publishes."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """`cuda` is another one for each process of a machine."""
        return f"cuda:{self.local_rank}" if name == "cuda" else name

    def joined(self, net: nn.Module) -> nn.Module:
        """What to call in training: `net` itself, or one that starts as the leader's and averages gradients."""
        return net if self.size == 1 else DistributedDataParallel(net)

    def share(self, rows: Tensor) -> tuple[Tensor, float]:
        """This process's rows of a batch [B], and which part of it they are.

        Σ share·mean loss is the mean over the batch, however uneven the parts. Where rows are fewer than
        processes, some compute a row that counts nothing: all must take part in averaging.
        """
        mine = rows.tensor_split(self.size)[self.rank]
        return (mine, len(mine) / len(rows)) if len(mine) else (rows[:1], 0.0)

    def agreed(self, part: float, *flags: bool) -> tuple[Any, ...]:
        """(Σ part over all processes, the leader's flags…): the same in each."""
        if self.size == 1:
            return part, *flags
        told = torch.tensor([part, *(flag and self.leads for flag in flags)], dtype=torch.float64)
        dist.all_reduce(told)
        return float(told[0]), *(bool(flag) for flag in told[1:])

    def from_leader(self, make: Callable[[], T]) -> T:
        """What the leader makes, in each process; only the leader calls `make`."""
        if self.size == 1:
            return make()
        box: list[Any] = [make() if self.leads else None]
        dist.broadcast_object_list(box)
        made: T = box[0]
        return made

    def gathered(self, value: T) -> list[T]:
        """The values of all processes in order; to the others than the leader, none."""
        if self.size == 1:
            return [value]
        box: list[Any] = [None] * self.size
        dist.gather_object(value, box if self.leads else None)
        return box if self.leads else []

    @contextmanager
    def first_of_machine(self) -> Iterator[None]:
        """The first process of each machine does it before the others: they find the downloads made."""
        if self.size > 1 and self.local_rank:
            dist.barrier()
        yield
        if self.size > 1 and not self.local_rank:
            dist.barrier()


def present() -> Team:
    """The team that this process has joined, or the process alone."""
    if not dist.is_initialized():
        return Team()
    return Team(dist.get_rank(), dist.get_world_size(), dist.get_node_local_rank())


@contextmanager
def joined() -> Iterator[Team]:
    """Joins the processes that torchrun started with this one; without torchrun it is alone.

    Raises PeerLost when another one ends early or cannot be reached. The group is left however the block ends.
    """
    if not dist.is_torchelastic_launched():
        yield Team()
        return
    cuda = torch.cuda.is_available()
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=MOST_WAIT)
        yield present()
    except RuntimeError as error:
        if not _lost(error):
            raise
        raise PeerLost(
            "another process of this run has ended: see its message, then start the run again"
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _lost(error: RuntimeError) -> bool:
    """Gloo raises a plain RuntimeError with the name of its source file."""
    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)
