"""The last steps of a session, packed: a step that is sent again is told again, not computed. Knows no session."""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from services.sequence.models.encode import Floats

MARK_BYTES = 8
MOST_STEPS, MOST_BYTES = 64, 4096
FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Recent:
    """Of each step its input's mark and its scores; the newest last. `classes`: scores of a step."""

    classes: int = 0
    packed: bytes = b""

    def then(self, mark: bytes, scores: Floats) -> "Recent":
        """With the next step, whose scores [K] are float32; the oldest leave."""
        entry = mark + scores.astype("<f4").tobytes()
        most = max(1, min(MOST_STEPS, MOST_BYTES // len(entry)))
        return Recent(scores.size, (self.packed + entry)[-most * len(entry) :])

    def find(self, back: int, mark: bytes) -> Floats | None:
        """Scores [K] of the step that is `back` before the newest; None unless its input was that of `mark`."""
        size = MARK_BYTES + FLOAT_BYTES * self.classes
        start = len(self.packed) - (back + 1) * size
        if back < 0 or start < 0 or self.packed[start : start + MARK_BYTES] != mark:
            return None
        return np.frombuffer(self.packed, "<f4", self.classes, start + MARK_BYTES).astype(np.float32)

    @property
    def steps(self) -> int:
        """How many it holds."""
        return len(self.packed) // (MARK_BYTES + FLOAT_BYTES * self.classes)


def mark_of(frame: Floats) -> bytes:
    """Tells one input [1, F] from others."""
    return blake2b(frame.astype("<f4", copy=False).tobytes(), digest_size=MARK_BYTES).digest()
