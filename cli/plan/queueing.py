"""How long calls wait at a station that takes all that wait, up to a batch, whenever it is free. Knows no service.

The bulk queue M/G[1,B]/1 of Bailey (1954) and Neuts (1967): Poisson arrivals, a free server takes min(waiting, B)
at once, a batch of b takes S(b). How many wait at the end of a batch is a Markov chain, solved exactly here for an
S without spread; arrivals see time averages (PASTA), so the law of the sojourn follows from the batch they find,
and is drawn rather than written down. A language model's engine takes new calls at every step instead: a processor
shared by all, its pace by their number, in balance whatever the lengths (Cohen 1979).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
DRAWS = 20_000
STATES = 300  # of those that wait where a batch ends
FULL = 0.99  # of what a station can do: beyond it this is no longer the place to ask
SEED = 7


@dataclass(frozen=True, slots=True)
class Stay:
    """At one station: `sojourns` are equally likely, in seconds; `busy` is the share of time that it works.

    Of a station that cannot keep up: no sojourns, `busy` 1. `load` is of the most it could do.
    """

    sojourns: Array
    busy: float
    load: float

    @property
    def stable(self) -> bool:
        return bool(self.sojourns.size)


def batching(rate: float, batches: Array) -> Stay:
    """Calls at `rate` a second; `batches[b - 1]` is S(b) in seconds, b up to B."""
    most = len(batches)
    load = rate * batches[-1] / most
    if load >= FULL:
        return Stay(np.empty(0), 1.0, load)
    ends = _ends(rate, batches)
    waiting = np.arange(STATES)
    sizes = np.clip(waiting, 1, most)
    lengths = batches[sizes - 1]
    idle, working = ends[0] / rate, ends * lengths
    cycle = idle + working.sum()
    draw = np.random.default_rng(SEED)
    found = draw.choice(STATES + 1, DRAWS, p=np.append(working, idle) / cycle)
    free = found == STATES
    state = np.where(free, 0, found)
    busy = float(working.sum() / cycle)
    return Stay(np.where(free, batches[0], _behind(rate, batches, state, draw)), busy, load)


def _ends(rate: float, batches: Array) -> Array:
    """Share of the batches that leave 0, 1, 2 … waiting at their end; the last state stands for all beyond."""
    most, chain = len(batches), np.zeros((STATES, STATES))
    came = [_poisson(rate * length) for length in batches]
    for left in range(STATES):
        size = min(max(left, 1), most)
        kept = max(left, 1) - size
        chain[left, kept:] = came[size - 1][: STATES - kept]
    chain[:, -1] += np.maximum(0, 1 - chain.sum(axis=1))
    return _stationary(chain)


def _stationary(chain: Array) -> Array:
    """Long-run shares of the states, one state after the other folded into those below (Grassmann, Taksar, Heyman
    1985): nothing is subtracted, and unlike a solver it starts no threads.
    """
    count = len(chain)
    for state in range(count - 1, 0, -1):
        chain[:state, state] /= chain[state, :state].sum()
        chain[:state, :state] += chain[:state, state, None] * chain[state, :state]
    found = np.ones(count)
    for state in range(1, count):
        found[state] = (found[:state] * chain[:state, state]).sum()
    return np.asarray(found / found.sum())


def _poisson(mean: float) -> Array:
    """Probabilities of 0 … STATES - 1, each out of the one before, through logarithms."""
    numbers = np.arange(STATES)
    logs = np.concatenate([[0.0], np.cumsum(np.log(numbers[1:]))])
    return np.asarray(np.exp(numbers * np.log(mean) - mean - logs))


def _behind(rate: float, batches: Array, state: npt.NDArray[Any], draw: np.random.Generator) -> Array:
    """Sojourns of those who find a batch at work that was begun with `state` waiting.

    The rest of it, full batches of who came before, then one's own batch, with who came until it begins.
    """
    most = len(batches)
    size = np.clip(state, 1, most)
    length = batches[size - 1]
    age = draw.random(len(state)) * length
    before = np.maximum(state, 1) - size + draw.poisson(rate * age)
    wait = length - age + before // most * batches[-1]
    own = np.minimum(most, before % most + 1 + draw.poisson(rate * wait))
    found: Array = wait + batches[own - 1]
    return found


def sharing(rate: float, together: Array) -> Stay:
    """A processor shared by all who are there; `together[n - 1]` is how long n calls at once take, in seconds.

    Beyond the last n, others wait. A call is taken to keep the pace that it finds: its mean is exact (Little's
    law), its tail an upper bound, since over a long call the pace evens out.
    """
    most = len(together)
    load = rate * together[-1] / most
    if load >= FULL:
        return Stay(np.empty(0), 1.0, load)
    numbers = np.arange(1, STATES)
    paces = np.minimum(numbers, most) / together[np.minimum(numbers, most) - 1]
    logs = np.concatenate([[0.0], np.cumsum(np.log(rate / paces))])
    shares = np.exp(logs - logs.max())
    shares /= shares.sum()
    found = np.random.default_rng(SEED).choice(STATES - 1, DRAWS, p=shares[:-1] / shares[:-1].sum())
    return Stay((found + 1) / paces[found], float(1 - shares[0]), load)
