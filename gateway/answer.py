"""What a unary call is answered with. Knows not how it came about."""

from dataclasses import dataclass

from gateway.cache_stats import BYPASS
from gateway.relay import Metadata


@dataclass(frozen=True, slots=True)
class Answer:
    """A serialized reply, how it came about, and the service's metadata that travels on."""

    reply: bytes
    outcome: str = BYPASS
    age_s: float = 0.0
    initial: Metadata = ()
    trailing: Metadata = ()
