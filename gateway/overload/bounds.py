"""What an operator says of overload. Decides nothing."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one service. Short calls in flight are from `floor` to `ceiling`; long ones `most_long`, fixed.

    Nobody waits longer than `queue_wait_s`, as far as that is known. Without `shed` no call is held up or refused.
    """

    shed: bool = True
    hedge: bool = True
    floor: int = 4
    ceiling: int = 512
    most_long: int = 256
    queue_wait_s: float = 5.0
