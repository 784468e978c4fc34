"""A sequence model as the Open Inference Protocol sees it: text as BYTES, frames as FP32. Knows no session."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from services.runtime.errors import InvalidInput
from services.runtime.runners.base import Array
from services.runtime.store.manifest import TensorSpec
from services.sequence import compute
from services.sequence.loaded import SequenceModel, Work
from services.sequence.models import encode
from services.sequence.models.encode import Ids
from services.sequence.models.predict import unit_length
from services.sequence.step import Run, predict_runs
from services.sequence.tensor_series import check_finite, infer_series, series_input, series_output

TEXT = TensorSpec(name="text", dtype="BYTES", shape=(-1,))
# As many as texts.
MOST_ROWS = 4096


class TensorModel(SequenceModel):
    """Nets with memory take one frame a row, each from fresh state; others a whole series or one text a row."""

    oip_rows = MOST_ROWS

    @cached_property
    def oip_inputs(self) -> Sequence[TensorSpec]:
        if encode.is_series(self.manifest):
            return [series_input(self.manifest)]
        return [_frames(self.manifest.inputs[0])] if self.net.state_specs else [TEXT]

    @cached_property
    def oip_outputs(self) -> Sequence[TensorSpec]:
        first = self.manifest.outputs[0]
        if encode.is_series(self.manifest):
            return [series_output(self.manifest)]
        if self.net.state_specs:
            return [_frames(first)]
        if first.name == "phonemes":
            return [TensorSpec(name=first.name, dtype="BYTES", shape=(-1,))]
        name = "probabilities" if first.name == "logits" else "embedding"
        return [TensorSpec(name=name, dtype="FP32", shape=(-1, first.shape[-1]))]

    @cached_property
    def oip_labels(self) -> Mapping[str, Sequence[str]]:
        return {self.oip_outputs[0].name: self.labels}

    @property
    def oip_idle_s(self) -> float | None:
        """None where a row depends on nothing before it."""
        return self.session_idle_s if self.net.state_specs else None

    async def infer(self, inputs: Mapping[str, Array], deadline: float | None) -> Mapping[str, Array]:
        """One answer a row of the only input. InvalidInput names a row that cannot be read."""
        name = self.oip_outputs[0].name
        if encode.is_series(self.manifest):
            return {name: await infer_series(self, inputs[self.oip_inputs[0].name])}
        if self.net.state_specs:
            return {name: await self._hear(inputs[self.oip_inputs[0].name])}
        if name == "phonemes":
            return {name: await self._transduce(inputs["text"])}
        rows = await asyncio.to_thread(self._rows, inputs["text"])
        found = np.stack((await compute.answer_rows(self, rows)).value)
        unit = name == "embedding" and self.manifest.preprocessing.get("normalize", True)
        return {name: unit_length(found) if unit else found}

    async def _hear(self, frames: Array) -> Array:
        check_finite(frames, self.oip_inputs[0].name)
        runs = [Run(frame[None], self.net.fresh_state()) for frame in frames]
        heard = (await self.compute(Work(predict_runs, runs, len(runs)))).value
        return np.stack([one.scores[0] for one in heard])

    def _rows(self, texts: Array) -> list[Ids]:
        limit, cut = encode.max_tokens(self.manifest), encode.cuts(self.manifest)
        return encode.texts_to_ids(self.tokenizer("text"), _texts(texts), limit, cut)

    async def _transduce(self, texts: Array) -> Array:
        read = await asyncio.to_thread(self._words, texts)
        answers = (await compute.answer_rows(self, [word for words in read for word in words])).value
        return await asyncio.to_thread(self._lines, read, answers)

    def _words(self, texts: Array) -> list[list[Ids]]:
        limit = self.manifest.limits.get("max_letters", 32)
        return encode.texts_to_words(_texts(texts), self.manifest.config, limit, "text")

    def _lines(self, read: Sequence[Sequence[Ids]], answers: Sequence[Array]) -> Array:
        given, config = iter(answers), self.manifest.config
        lines = [" ".join(s for _ in words for s in encode.symbols(next(given), config)) for words in read]
        found = np.empty(len(lines), object)
        found[:] = [line.encode() for line in lines]
        return found


def _frames(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(name=spec.name, dtype="FP32", shape=spec.shape)


def _texts(values: Array) -> list[str]:
    return [_text(value, index) for index, value in enumerate(values)]


def _text(value: bytes, index: int) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"text[{index}]", f"is not UTF-8: {error.reason} at byte {error.start}") from None
