"""The tokenizers library alone in a process: `python -m … TOKENIZER_JSON`. A line of JSON a measurement."""

import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from time import perf_counter, process_time
from typing import Any

from tokenizers import Tokenizer

from tests.bench.lines import answer_lines
from tests.bench.load import WARM_UP_S, WARM_UP_SHARE, sample
from tests.bench.serving.texts import KINDS

BLOCK = 4  # calls of each thread between two makings of texts


def opened(path: str) -> Tokenizer:
    """Without truncation and padding, which our service does only where it is asked to."""
    found = Tokenizer.from_file(path)
    found.no_truncation()
    found.no_padding()
    return found


def measure(tokenizer: Tokenizer, question: dict[str, Any]) -> dict[str, float]:
    """Texts a second by `encode_batch_fast`, `callers` threads at once; making the texts is not measured."""
    texts, callers, seconds = question["texts"], question["callers"], question["seconds"]
    source = KINDS[question["kind"]](texts, random.randrange(1 << 32))
    spend(tokenizer, source, callers, min(WARM_UP_S, WARM_UP_SHARE * seconds))
    latencies, elapsed, used = spend(tokenizer, source, callers, seconds)
    return asdict(sample(latencies, texts * len(latencies), elapsed, used))


def spend(
    tokenizer: Tokenizer, source: Iterator[list[str]], callers: int, seconds: float
) -> tuple[list[float], float, float]:
    """Latencies, seconds and CPU seconds of block after block of calls, until they fill `seconds`."""
    latencies, elapsed, used = list[float](), 0.0, 0.0
    with ThreadPoolExecutor(callers) as pool:
        while elapsed < seconds:
            block = [next(source) for _ in range(BLOCK * callers)]
            began, cpu = perf_counter(), process_time()
            latencies += pool.map(partial(_timed, tokenizer), block)
            elapsed, used = elapsed + perf_counter() - began, used + process_time() - cpu
    return latencies, elapsed, used


def _timed(tokenizer: Tokenizer, texts: list[str]) -> float:
    began = perf_counter()
    tokenizer.encode_batch_fast(texts)
    return perf_counter() - began


def main() -> None:
    tokenizer = opened(sys.argv[1])
    answer_lines(lambda question: measure(tokenizer, question))


if __name__ == "__main__":
    main()
