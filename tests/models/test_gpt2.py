"""GPT-2 against `transformers` on random weights."""

from pathlib import Path

import torch

from tests.models.generation_checkpoints import saved


def test_dense_logits_agree_with_transformers(tmp_path: Path) -> None:
    reference, ours = saved("GPT2LMHeadModel", tmp_path)
    tokens = torch.randint(0, 128, (2, 60))
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), reference(tokens).logits, atol=1e-4, rtol=1e-4)
