"""transformers' own Llama and `generate`, fp32, one batch at a time: `python -m … CHECKPOINT THREADS`."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers

from tests.bench.peers.burst import Burst, Outcome, Progress, Prompt, batches, serve

PAD = 0


def _model(checkpoint: str, threads: int) -> Any:
    """The model; it never ends by itself."""
    torch.set_num_threads(threads)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    model.eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = PAD
    return model


def generate(model: Any, prompts: Sequence[Prompt]) -> list[list[int]]:
    """All prompts in one batch, padded on the left, for as long as the longest answer takes."""
    width = max(len(one.ids) for one in prompts)
    pads = [width - len(one.ids) for one in prompts]
    ids = torch.tensor([[PAD] * pad + one.ids for pad, one in zip(pads, prompts, strict=True)])
    mask = torch.tensor([[0] * pad + [1] * (width - pad) for pad in pads])
    longest = max(one.new_tokens for one in prompts)
    with torch.inference_mode():
        out = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=longest,
            do_sample=False,
            use_cache=True,
            repetition_penalty=1.0,
        )
    tokens: list[list[int]] = out[:, width:].tolist()
    return tokens


def load(checkpoint: str, threads: int) -> Callable[[Burst], Outcome]:
    model = _model(checkpoint, threads)
    return lambda burst: batches(Progress(burst), lambda prompts: generate(model, prompts))


if __name__ == "__main__":
    serve(lambda: load(sys.argv[1], int(sys.argv[2])))
