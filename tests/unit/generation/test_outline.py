"""What packing an adapter sees of a net, and what building it must not load."""

import subprocess
import sys

import torch

from services.generation.models.plain_low_rank import outline
from tests.engine.tiny import tiny_model

BUILT = """
import sys
from services.generation.models.plain_low_rank import outline
from tests.engine.tiny import tiny_model
outline(tiny_model())
assert "torch._dynamo" not in sys.modules
"""


def test_it_has_norms_and_no_matrices() -> None:
    net = tiny_model()
    bare = dict(outline(net).named_parameters())
    for name, weight in net.named_parameters():
        assert bare[name].is_meta if weight.dim() > 1 else torch.equal(bare[name], weight)


def test_it_is_made_without_torchs_compiler() -> None:
    """Its import takes a second of every start, and 60 MiB."""
    done = subprocess.run([sys.executable, "-c", BUILT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
