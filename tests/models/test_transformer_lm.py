"""The Transformer of full size learns one batch by heart: nothing in its way from loss to weights is broken."""

import pytest
import torch

from services.runtime.store.sources.fetcher import Fetcher
from training.language import next_token_loss
from training.recipes.transformer_lm import TransformerLm, TransformerLmPlan

pytestmark = [pytest.mark.models, pytest.mark.slow]

STEPS = 60


def test_one_batch_is_learnt_by_heart(fetcher: Fetcher) -> None:
    job = TransformerLm().begin(TransformerLmPlan(num_return_sequences=0), fetcher).job
    assert sum(weight.numel() for weight in job.model.parameters()) > 29_000_000
    batch, optimizer = job.rows.take(torch.arange(4)), torch.optim.AdamW(job.model.parameters(), 3e-4)
    for _ in range(STEPS):
        loss = next_token_loss(job.model, batch)
        if float(loss.detach()) < 0.1:
            return
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    pytest.fail(f"the loss is still {float(loss.detach()):.3f} after {STEPS} steps")
