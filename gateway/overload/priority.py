"""The classes of calls: what is shed last, and what first; and of which a call may be. Pure."""

from collections.abc import Mapping
from enum import IntEnum

from services.runtime.context import PRIORITY, USUAL, RequestContext
from services.runtime.errors import InvalidInput
from services.runtime.identity.policy import CRITICAL

HEADER = PRIORITY


class Priority(IntEnum):
    """By rank: a lower number goes first and is shed last."""

    CRITICAL = 0
    DEFAULT = 1
    BATCH = 2


NAMES: Mapping[str, Priority] = {one.name.lower(): one for one in Priority}

# Of the places, what classes above keep free for themselves: a call of theirs never waits for one of these to end.
_RESERVES = {Priority.CRITICAL: 0.0, Priority.DEFAULT: 0.1, Priority.BATCH: 0.25}


def priority_of(metadata: Mapping[str, str]) -> Priority:
    """The caller's word, DEFAULT without one. Raises InvalidInput naming the classes there are."""
    given = metadata.get(HEADER)
    if given is None:
        return Priority.DEFAULT
    try:
        return NAMES[given]
    except KeyError:
        raise InvalidInput(HEADER, f"{given!r} is none of {', '.join(NAMES)}") from None


def lowered(path: str, context: RequestContext) -> bool:
    """Whether the policy does not grant CRITICAL to a call of `path`: then it is one of DEFAULT, and told so.

    Not refused: a line that lacks in a policy would stop work that most needs to be done.
    """
    if context.rights.grants(path, CRITICAL):
        return False
    context.trailing.append((HEADER, USUAL))
    return True


def places(limit: int) -> tuple[int, ...]:
    """How many calls may be inside for one more of each class to follow, by rank: at least one."""
    return tuple(max(1, limit - max(rank, round(limit * share))) for rank, share in _RESERVES.items())
