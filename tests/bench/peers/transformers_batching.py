"""transformers' continuous batching, fp32, over its paged cache: `python -m … CHECKPOINT THREADS`."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count

import torch
import transformers

from tests.bench.peers.burst import Burst, Outcome, Progress, serve

NEVER = -1  # no such end token
# Left to itself the library takes 0.6 of the machine's memory, and lets every token of a pass look at all that the
# pass reads: the fewer prompt tokens at once, the less is thrown away.
PAGE_TOKENS, PAGES, BATCH_TOKENS = 32, 640, 256


class Engine:
    """Its manager, whose thread computes whatever waits; what is asked again is found in its pages."""

    def __init__(self, checkpoint: str, threads: int) -> None:
        torch.set_num_threads(threads)
        model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
        self._manager = model.init_continuous_batching(
            transformers.GenerationConfig(do_sample=False, eos_token_id=NEVER),
            transformers.generation.ContinuousBatchingConfig(
                page_size=PAGE_TOKENS, num_blocks=PAGES, max_batch_tokens=BATCH_TOKENS
            ),
        )
        self._manager.start()
        self._ids = count()

    def play(self, burst: Burst) -> Outcome:
        progress = Progress(burst)
        places = {str(next(self._ids)): place for place in range(len(burst.prompts))}
        for name, place in places.items():
            one = burst.prompts[place]
            self._manager.add_request(one.ids, name, one.new_tokens, eos_token_id=NEVER)
        while progress.left:
            if (found := self._manager.get_result(timeout=1.0)) is None:
                self._check()
            else:
                progress.add(places[found.request_id], *found.generated_tokens)
        return progress.outcome()

    def close(self) -> None:
        """Ends the thread, without which the process would not."""
        self._manager.stop()

    def _check(self) -> None:
        """RuntimeError if the thread ended, whose end nobody else is told of."""
        if not self._manager.is_running():
            raise RuntimeError("the manager's thread ended")


def main() -> None:
    with ExitStack() as stack:

        def load() -> Callable[[Burst], Outcome]:
            engine = Engine(sys.argv[1], int(sys.argv[2]))
            stack.callback(engine.close)
            return engine.play

        serve(load)


if __name__ == "__main__":
    main()
