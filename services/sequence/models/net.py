"""A loaded net and what its inputs and outputs mean. Knows no batching, no text, no queue."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from services.runtime.errors import PreconditionFailed
from services.runtime.runners.base import Array, Runner
from services.runtime.store.manifest import Manifest, TensorSpec
from services.sequence.models.samples import samples

State = Mapping[str, Array]
NEXT = "next_"  # an output next_X feeds the input X of the following step


@dataclass(frozen=True)
class Net:
    """`runner` executes what `manifest` describes."""

    runner: Runner
    manifest: Manifest

    @cached_property
    def state_specs(self) -> list[TensorSpec]:
        """The inputs that carry memory from step to step."""
        outputs = {spec.name for spec in self.manifest.outputs}
        return [spec for spec in self.manifest.inputs if NEXT + spec.name in outputs]

    @property
    def frame_width(self) -> int:
        """Values of one step."""
        return self.manifest.inputs[0].shape[1]

    def fresh_state(self) -> State:
        """Zeros for one stream."""
        return {spec.name: np.zeros([max(n, 1) for n in spec.shape], spec.dtype) for spec in self.state_specs}

    def try_out(self) -> None:
        """Run a sample; PreconditionFailed when the answer holds a value that is no number."""
        for name, array in self.runner.run(samples(self.manifest, [2])[0]).items():
            if not np.isfinite(array).all():
                raise PreconditionFailed(f"model {self.manifest.name}: {name} of a sample is not finite")
