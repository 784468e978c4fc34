"""The engine's log probabilities, through chunked prefill and paged decode, against `transformers`."""

from pathlib import Path

import pytest
import torch

from services.generation.engine.output import PositionLogprobs
from services.generation.engine.request import Request, Sequence, Stopping
from tests.engine.tiny import make_engine, run, text_sink
from tests.models.generation_checkpoints import CHECKPOINTS, saved

VOCAB = 128


def everything(position: PositionLogprobs) -> torch.Tensor:
    """[vocab] log probabilities in id order, from a report of the whole vocabulary."""
    row = torch.empty(VOCAB)
    for one in position.top:
        row[one.token_id] = one.logprob
    return row


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_prompt_and_output_agree(kind: str, tmp_path: Path) -> None:
    reference, ours = saved(kind, tmp_path)
    draw = torch.Generator().manual_seed(1)
    prompts = [torch.randint(0, VOCAB, (length,), generator=draw).tolist() for length in (90, 17, 64)]
    stopping = Stopping(max_tokens=30)
    requests = [
        Request(tuple(prompt), stopping=stopping, logprobs=VOCAB, prompt_logprobs=VOCAB) for prompt in prompts
    ]
    results = run(make_engine(ours, max_batch_tokens=40), [Sequence(one, 0, text_sink()) for one in requests])
    for request, result in zip(requests, results, strict=True):
        scored = [request.prompt_scores[place] for place in range(1, len(request.prompt))]
        found = torch.stack([everything(one) for one in scored + [d.logprobs[0] for d in result.deltas]])
        with torch.no_grad():
            logits = reference(torch.tensor([[*request.prompt, *result.tokens[:-1]]])).logits[0]
        torch.testing.assert_close(found, logits.log_softmax(-1), atol=1e-4, rtol=1e-4)
