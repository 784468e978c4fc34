"""llama.cpp through its batch interface, as its own server drives it: `python -m … FILE THREADS`."""

import sys

import llama_cpp as llama
import numpy as np

from tests.bench.peers.burst import Burst, Outcome, Progress, serve

SEQUENCES, SEQUENCE_TOKENS, BATCH_TOKENS = 32, 640, 2048


class Engine:
    """One context with a stream of keys and values for each prompt of a burst; nothing is kept between bursts."""

    def __init__(self, path: str, threads: int) -> None:
        llama.llama_backend_init()
        self._model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
        limits = llama.llama_context_default_params()
        limits.n_ctx, limits.n_seq_max = SEQUENCES * SEQUENCE_TOKENS, SEQUENCES
        limits.n_batch = BATCH_TOKENS
        limits.n_threads = limits.n_threads_batch = threads
        self._context = llama.llama_init_from_model(self._model, limits)
        self._memory = llama.llama_get_memory(self._context)
        self._batch = llama.llama_batch_init(BATCH_TOKENS, 0, 1)
        self._vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model))

    def play(self, burst: Burst) -> Outcome:
        """The shared tokens once, copied to all; then decodes first and prompts in what is left of each batch."""
        progress = Progress(burst)
        llama.llama_memory_clear(self._memory, False)
        pending = [list(one.ids) for one in burst.prompts]
        done = [0] * len(pending)
        if burst.shared and len(pending) > 1:
            self._decode([(0, place, token, False) for place, token in enumerate(pending[0][: burst.shared])])
            for place in range(1, len(pending)):
                llama.llama_memory_seq_cp(self._memory, 0, place, -1, -1)
            pending = [ids[burst.shared :] for ids in pending]
            done = [burst.shared] * len(pending)
        while progress.left:
            for place, token in self._step(pending, done).items():
                pending[place] = [] if progress.add(place, token) else [token]
        return progress.outcome()

    def _step(self, pending: list[list[int]], done: list[int]) -> dict[int, int]:
        """One batch; the next token of every sequence of which nothing is left to compute."""
        rows: list[tuple[int, int, int, bool]] = []
        for place in sorted(range(len(pending)), key=lambda place: len(pending[place])):
            part = pending[place][: BATCH_TOKENS - len(rows)]
            last = len(pending[place]) - 1
            rows += [(place, done[place] + n, token, n == last) for n, token in enumerate(part)]
            done[place] += len(part)
            del pending[place][: len(part)]
        return self._decode(rows)

    def _decode(self, rows: list[tuple[int, int, int, bool]]) -> dict[int, int]:
        """(sequence, position, token, whether to choose the next one) → sequence: likeliest next token."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for row, (sequence, position, token, wanted) in enumerate(rows):
            batch.token[row], batch.pos[row], batch.logits[row] = token, position, wanted
            batch.n_seq_id[row], batch.seq_id[row][0] = 1, sequence
        if llama.llama_decode(self._context, batch):
            raise RuntimeError("llama_decode failed")
        return {sequence: self._likeliest(row) for row, (sequence, _, _, wanted) in enumerate(rows) if wanted}

    def _likeliest(self, row: int) -> int:
        logits = llama.llama_get_logits_ith(self._context, row)
        return int(np.ctypeslib.as_array(logits, (self._vocabulary,)).argmax())


if __name__ == "__main__":
    serve(lambda: Engine(sys.argv[1], int(sys.argv[2])).play)
