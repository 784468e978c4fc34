"""OpenVINO GenAI with continuous batching. Runs in the peer's own environment: `python -m … FOLDER THREADS`."""

import sys
from functools import cache
from itertools import count

import numpy as np
import openvino
import openvino_genai

from tests.bench.peers.burst import Burst, Outcome, Progress, serve

CACHE_GIB = 1


class Engine:
    """Two pipelines at most: prefixes are remembered for prompts that share one, and not where it cannot pay."""

    def __init__(self, folder: str, threads: int) -> None:
        self._folder, self._threads = folder, threads
        self._ids = count()
        self._pipeline = cache(self._load)
        self._pipeline(False)

    def _load(self, remembers: bool) -> openvino_genai.ContinuousBatchingPipeline:
        limits = openvino_genai.SchedulerConfig()
        limits.cache_size = CACHE_GIB
        limits.enable_prefix_caching = remembers
        properties = {"INFERENCE_NUM_THREADS": self._threads}
        return openvino_genai.ContinuousBatchingPipeline(self._folder, limits, "CPU", properties)

    def play(self, burst: Burst) -> Outcome:
        pipeline = self._pipeline(burst.shared > 0)
        progress = Progress(burst)
        handles = [
            pipeline.add_request(
                next(self._ids),
                openvino.Tensor(np.array([one.ids], dtype=np.int64)),
                openvino_genai.GenerationConfig(
                    max_new_tokens=one.new_tokens, min_new_tokens=one.new_tokens, ignore_eos=True, do_sample=False
                ),
            )
            for one in burst.prompts
        ]
        while progress.left:
            pipeline.step()
            for place, handle in enumerate(handles):
                while handle.can_read():
                    progress.add(place, *next(iter(handle.read().values())).generated_ids)
        return progress.outcome()


if __name__ == "__main__":
    serve(lambda: Engine(sys.argv[1], int(sys.argv[2])).play)
