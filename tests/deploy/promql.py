"""Which metrics and labels an expression of Prometheus names. Reads no more of PromQL than that."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

OPERATORS = ("and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "offset")
FUNCTIONS = ("rate", "increase", "changes", "time", "vector", "histogram_quantile")
WORDS = frozenset((*OPERATORS, *FUNCTIONS, "bool", "sum", "max", "min", "avg", "count"))
TEXT = re.compile(r'"[^"]*"')
GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
METRIC = re.compile(r"(?<![\w:$])([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?")
RANGE = re.compile(r"\[[^\]]*\]|\boffset\s+\w+")
# What a scrape adds, and what a histogram has.
EVERYWHERE = frozenset({"job", "instance", "le"})


@dataclass
class Named:
    """Labels by metric, where they select, and all that anything is grouped by."""

    metrics: dict[str, set[str]] = field(default_factory=dict)
    groups: set[str] = field(default_factory=set)


def named(expression: str) -> Named:
    """What `expression` names."""
    found = Named()
    plain = RANGE.sub(" ", TEXT.sub('""', expression))
    for group in GROUPING.findall(plain):
        found.groups |= {label.strip() for label in group.split(",") if label.strip()}
    for metric, selector in METRIC.findall(GROUPING.sub(" ", plain)):
        if metric not in WORDS:
            labels = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)
            found.metrics.setdefault(metric, set()).update(labels)
    return found


def unknown(expression: str, metrics: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """What of `expression` is in none of `metrics`: labels by name as exposed."""
    asked = named(expression)
    for metric, labels in asked.metrics.items():
        if metric not in metrics:
            yield metric
        else:
            yield from (f"{metric}{{{label}}}" for label in labels - metrics[metric] - EVERYWHERE)
    given = frozenset().union(*(metrics.get(metric, frozenset()) for metric in asked.metrics), EVERYWHERE)
    yield from (f"by ({label})" for label in asked.groups - given)
