"""The reference for generation: transformers' own model and `generate` on a version of the store."""

import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import transformers
from safetensors.torch import load_file

from services.runtime.store.manifest_file import read
from tests.bench.worker import answer_lines


def load(directory: Path) -> Any:
    """LlamaForCausalLM, fp32, with the weights of `directory`; never ends by itself."""
    config = transformers.LlamaConfig(**read(directory).config)
    model: Any = transformers.LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(load_file(directory / "model.safetensors"), strict=False)
    if unexpected or missing not in ([], ["lm_head.weight"]):
        raise RuntimeError(f"the weights do not fit: {missing} are missing, {unexpected} are unknown")
    model.tie_weights()
    model.eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def generate(model: Any, question: dict[str, Any]) -> dict[str, Any]:
    """New token ids for each of the equally long `prompts`, greedily, and the time of the whole batch."""
    rows, new_tokens = question["prompts"], question["new_tokens"]
    ids = torch.tensor(rows)
    began = perf_counter()
    with torch.inference_mode():
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=False, use_cache=True
        )
    elapsed = perf_counter() - began
    return {"tokens": out[:, ids.shape[1] :].tolist(), "elapsed_s": elapsed}


def main() -> None:
    directory, threads = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(threads)
    model = load(directory)
    answer_lines(lambda question: generate(model, question))


if __name__ == "__main__":
    main()
