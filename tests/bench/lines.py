"""A line of JSON in, a line of JSON out: the child's end of a floor. Standard library only."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def answer_lines(answer: Answer, out: TextIO | None = None) -> None:
    """Until the input ends. `out` is what `output` gave, if it was called before."""
    out = out or output()
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=out, flush=True)


def output() -> TextIO:
    """Where the answers go. From now on what libraries print goes to the log, not between them."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return out
