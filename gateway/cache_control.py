"""What a caller asks of the cache, in HTTP's words. Pure."""

from dataclasses import dataclass
from functools import lru_cache

from services.runtime.errors import InvalidInput, NotFound

HEADER = "cache-control"


@dataclass(frozen=True, slots=True)
class CacheControl:
    """no_cache: compute afresh and remember; no_store: neither look nor remember; max_age_s: oldest answer taken;
    only_if_cached: never compute."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age_s: float | None = None

    @classmethod
    def parse(cls, text: str) -> "CacheControl":
        """Reads the metadata value; unknown words are ignored, as HTTP does."""
        return _PLAIN if not text else _read(text)

    def takes(self, age_s: float) -> bool:
        """Whether an answer this old will do."""
        return not self.no_cache and (self.max_age_s is None or age_s <= self.max_age_s)


_PLAIN = CacheControl()


@lru_cache(maxsize=64)
def _read(text: str) -> CacheControl:
    words = [word.strip().lower() for word in text.split(",")]
    ages = [word.removeprefix("max-age=") for word in words if word.startswith("max-age=")]
    return CacheControl(
        no_cache="no-cache" in words,
        no_store="no-store" in words,
        only_if_cached="only-if-cached" in words,
        max_age_s=_seconds(ages[-1]) if ages else None,
    )


def cache_miss() -> NotFound:
    """The answer to `only-if-cached` when nothing is there."""
    return NotFound("cached answer", "to this request", reason="CACHE_MISS")


def _seconds(text: str) -> float:
    if not text.isascii() or not text.isdigit():
        raise InvalidInput(HEADER, f"max-age={text} is not a whole number of seconds")
    return float(text)
