"""What a loaded model must offer to be served over the Open Inference Protocol. Knows no message."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from services.runtime.host import Loaded
from services.runtime.oip_parameters import Part
from services.runtime.oip_tensors import Array
from services.runtime.store.manifest import TensorSpec

# Outputs by name for checked inputs; the first axis is the batch.
Infer = Callable[[Mapping[str, Array], float | None], Awaitable[Mapping[str, Array]]]


class Inferable(Loaded, Protocol):
    """A loaded model that also speaks tensors. Datatypes in the specs are the protocol's: FP32, INT64, BYTES."""

    @property
    def oip_inputs(self) -> Sequence[TensorSpec]: ...

    @property
    def oip_outputs(self) -> Sequence[TensorSpec]: ...

    @property
    def oip_labels(self) -> Mapping[str, Sequence[str]]:
        """Names of the classes, for outputs that have them."""

    @property
    def oip_rows(self) -> int:
        """Most rows of a request."""

    @property
    def oip_idle_s(self) -> float | None:
        """How long it keeps the state of a sequence that nobody uses; None for a model without state."""

    async def infer(self, inputs: Mapping[str, Array], deadline: float | None) -> Mapping[str, Array]:
        """Outputs by name for checked inputs; the first axis is the batch."""


class Sequencer(Protocol):
    """Keeps the state of sequences between requests."""

    def turn(self, model: str, version: str, part: Part) -> AbstractAsyncContextManager[tuple[Inferable, Infer]]:
        """The model of the sequence and how to ask it, while no other request of that sequence is at work.

        Turns are given in the order in which they were asked for. Raises ModelNotFound, SessionNotFound for a
        sequence that was not started, Overloaded, InvalidInput for a model without state.
        """
