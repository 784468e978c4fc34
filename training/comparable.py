"""Which settings decide what a score is measured on. Knows no recipe; the names are those of their plans."""

from collections.abc import Mapping
from typing import Any

# The rows that are held out, or the unit of a loss: nats a token mean little beside another tokenizer's.
DECISIVE = frozenset(
    {
        *("data", "dataset", "size", "time", "column", "rows", "test_rows", "held_out_tokens"),
        *("vocab_size", "preset", "store", "base", "version"),
    }
)


def decisive(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `plan` that must be equal for two scores to be comparable."""
    return {key: value for key, value in plan.items() if key in DECISIVE}
