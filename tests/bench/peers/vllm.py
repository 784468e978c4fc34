"""vLLM's engine, stepped in this process: `python -m … CHECKPOINT THREADS`."""

import os
import sys
from itertools import count

import vllm
from vllm.sampling_params import RequestOutputKind

from tests.bench.peers.burst import Burst, Outcome, Progress, serve

CACHE_GIB, CONTEXT = "1", 1024
# The library reads these when an engine is made.
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": CACHE_GIB,
    "VLLM_NO_USAGE_STATS": "1",
    # What it compiles ahead of time 0.32 cannot load again, and so compiles at each start.
    "VLLM_USE_AOT_COMPILE": "0",
}


class Engine:
    """The whole machine's cores are its own, as the library would have it."""

    def __init__(self, checkpoint: str, threads: int) -> None:
        os.environ.update(ENVIRONMENT, VLLM_CPU_OMP_THREADS_BIND=f"0-{threads - 1}")
        self._engine = vllm.LLM(checkpoint, dtype="float32", max_model_len=CONTEXT, enforce_eager=False).llm_engine
        self._ids = count()

    def play(self, burst: Burst) -> Outcome:
        progress = Progress(burst)
        places = {str(next(self._ids)): place for place in range(len(burst.prompts))}
        for name, place in places.items():
            one = burst.prompts[place]
            how = vllm.SamplingParams(
                temperature=0.0,
                max_tokens=one.new_tokens,
                ignore_eos=True,
                detokenize=False,
                output_kind=RequestOutputKind.DELTA,
            )
            self._engine.add_request(name, {"prompt_token_ids": one.ids}, how)
        while progress.left:
            for reply in self._engine.step():
                progress.add(places[reply.request_id], *reply.outputs[0].token_ids)
        return progress.outcome()


if __name__ == "__main__":
    serve(lambda: Engine(sys.argv[1], int(sys.argv[2])).play)
