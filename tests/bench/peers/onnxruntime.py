"""ONNX Runtime GenAI: prompts of one length in one batch, others one by one. `python -m … FOLDER THREADS`."""

import json
import sys
from collections.abc import Iterator

import numpy as np
import onnxruntime_genai as genai

from tests.bench.peers.burst import Burst, Outcome, Progress, Prompt, serve


class Engine:
    def __init__(self, folder: str, threads: int) -> None:
        config = genai.Config(folder)
        config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
        self._model = genai.Model(config)

    def play(self, burst: Burst) -> Outcome:
        progress = Progress(burst)
        for places in _alike(burst.prompts):
            self._batch(progress, places)
        return progress.outcome()

    def _batch(self, progress: Progress, places: list[int]) -> None:
        """Equally long prompts to the end of their equally long answers; its end token is masked until then."""
        prompts = [progress.burst.prompts[place] for place in places]
        total = len(prompts[0].ids) + prompts[0].new_tokens
        limits = genai.GeneratorParams(self._model)
        limits.set_search_options(batch_size=len(places), min_length=total, max_length=total, do_sample=False)
        generator = genai.Generator(self._model, limits)
        generator.append_tokens(np.array([one.ids for one in prompts], dtype=np.int32))
        for _ in range(prompts[0].new_tokens):
            generator.generate_next_token()
            for place, token in zip(places, generator.get_next_tokens(), strict=True):
                progress.add(place, int(token))


def _alike(prompts: list[Prompt]) -> Iterator[list[int]]:
    """Places of prompts of equal length and equal wish, in the order of arrival."""
    shapes = [(len(one.ids), one.new_tokens) for one in prompts]
    for shape in dict.fromkeys(shapes):
        yield [place for place, other in enumerate(shapes) if other == shape]


if __name__ == "__main__":
    serve(lambda: Engine(sys.argv[1], int(sys.argv[2])).play)
