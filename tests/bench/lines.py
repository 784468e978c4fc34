"""A line of JSON in, a line of JSON out: the child's end of a floor. Standard library only."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def answer_lines(answer: Answer) -> None:
    """Until the input ends. What libraries print goes to the log, not between the lines."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=out, flush=True)
