"""Token ids as requests carry them → a list. Knows no tokenizer and no numpy."""

from collections.abc import Sequence

from services.runtime.errors import InvalidInput


def token_ids(values: Sequence[int], packed: bytes, field: str) -> list[int]:
    """Ids from the readable or the packed form. Raises InvalidInput when both or a broken packing is given."""
    if not packed:
        return list(values[:])  # a slice of a repeated field is a list, in half the time
    if len(values):
        raise InvalidInput(field, "values and packed are both set; fill one")
    if len(packed) % 4:
        raise InvalidInput(f"{field}.packed", f"{len(packed)} bytes are no whole number of uint32")
    return memoryview(packed).cast("I").tolist()
