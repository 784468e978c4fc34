"""Which rule a method's calls follow at the gate, by its path. Pure."""

from dataclasses import dataclass
from enum import Enum

# Work of many parts, which others get turns between: what it takes tells of the load as little as a stream does.
_LONG = frozenset(
    {"Explain", "RunSession", "ClassifyStream", "TokenizeStream", "DetokenizeStream", "ModelStreamInfer"}
)
_LONG_SERVICE = "/maas.generation."
# What a service is asked about itself is to be answered under any load.
_FREE_SERVICES = ("/maas.model.", "/grpc.")
_OIP, _OIP_INFER = "/inference.", frozenset({"ModelInfer", "ModelStreamInfer"})
# Short functions of their request alone: a second copy costs little and changes nothing.
_TWICE = {
    "/maas.tokenization.": frozenset({"Tokenize", "Detokenize", "CountTokens", "RenderChat"}),
    "/maas.vision.": frozenset({"Classify", "Embed"}),
    "/maas.sequence.": frozenset({"Classify", "Embed", "Forecast", "Transduce"}),
}


class Rule(Enum):
    """How a call is let in."""

    FREE = "always"
    SHORT = "as many as the service keeps up with"
    LONG = "a fixed number"


@dataclass(frozen=True, slots=True)
class Way:
    """`twice`: whether a copy may go to another replica while the first is under way."""

    rule: Rule
    twice: bool


def way_of(path: str) -> Way:
    """Of `/package.Service/Method`."""
    method = path.rpartition("/")[2]
    if path.startswith(_FREE_SERVICES) or (path.startswith(_OIP) and method not in _OIP_INFER):
        return Way(Rule.FREE, twice=False)
    rule = Rule.LONG if path.startswith(_LONG_SERVICE) or method in _LONG else Rule.SHORT
    return Way(rule, any(path.startswith(area) and method in methods for area, methods in _TWICE.items()))
