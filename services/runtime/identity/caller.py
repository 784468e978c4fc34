"""Who calls, once told apart. Knows no credential and no transport."""

from dataclasses import dataclass

from services.runtime.errors import InvalidInput

MOST_NAME_BYTES = 128


@dataclass(frozen=True, slots=True)
class Caller:
    """`tenant` "" = of nobody in particular. `roles` are for an authorisation policy to judge."""

    name: str = ""
    tenant: str = ""
    roles: frozenset[str] = frozenset()
    # Metadata that tells the next service whose call it is; empty where none would believe it.
    vouching: tuple[tuple[str, str], ...] = ()
    # Another server of ours let it in.
    vouched: bool = False


ANYBODY = Caller()


def proper_name(field: str, name: object) -> str:
    """A tenant's, a caller's or a role's name. Raises InvalidInput: it must be short printable text."""
    if not (isinstance(name, str) and name and name.isprintable() and len(name.encode()) <= MOST_NAME_BYTES):
        raise InvalidInput(field, f"must be printable text of 1 to {MOST_NAME_BYTES} bytes")
    return name
