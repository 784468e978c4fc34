"""When a remembered answer is computed anew before it ends: by chance, likelier the nearer the end. Pure.

XFetch of Vattani, Chierichetti and Lowenstein, Optimal Probabilistic Cache Stampede Prevention (VLDB 2015), β = 1:
some caller begins before the end, by about the time that the computation takes, and knows of no other.
"""

import math
import random
from collections.abc import Callable

from gateway.entry import Entry

# In units of the computation's time. Earlier than that the chance is e⁻²⁰, two in a thousand million: none.
REACH = 20.0


def may_be_due(entry: Entry, now: float) -> bool:
    """Whether chance is worth asking: `now` in unix seconds."""
    return entry.expires_at - now < REACH * entry.took_s


def due(entry: Entry, now: float, uniform: Callable[[], float] = random.random) -> bool:
    """Whether this look-up is the one that begins; `uniform` in [0, 1)."""
    return may_be_due(entry, now) and entry.expires_at - now < entry.took_s * -math.log(1.0 - uniform())
