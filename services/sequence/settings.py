"""Settings of the sequence service: the floor's, defaults per RPC, batching and sessions."""

import os
from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from services.runtime.redis_settings import RedisSettings, RedisUrl
from services.runtime.runners.open import RunnerSettings

MOST_LANES = 4


def by_machine() -> int:
    """Small nets keep few cores busy: the loop that feeds them is soon what they wait for."""
    return min(MOST_LANES, len(os.sched_getaffinity(0)))


class SequenceSettings(RedisSettings):
    """Read by `python -m services.sequence`."""

    port: int = Field(50053, ge=0, le=65535, description="port to listen on; 0 = any free one")
    session_model: str = Field("silero-vad", description="model of RunSession and StepSession")
    series_classify_model: str = Field("silero-vad", description="model of Classify for series")
    text_classify_model: str = Field("bert-classify", description="model of Classify for texts and ids")
    text_embed_model: str = Field("minilm-l6-v2", description="model of Embed")
    transduce_model: str = Field("g2p-en", description="model of Transduce")
    forecast_model: str = Field("rnn-forecast", description="model of Forecast")
    runner: Literal["auto", "torch", "onnxruntime"] = Field(
        "auto", description="auto = the runner chosen when the model was published"
    )
    lanes: int = Field(
        default_factory=by_machine, ge=1, le=256, description="batches computed at once; the cores, four at most"
    )
    batch_tokens: int = Field(1024, ge=1, description="most tokens or frames computed together")
    batch_steps: int = Field(4096, ge=1, description="most steps of whole series computed together")
    batch_queue_limit: int = Field(512, ge=1, description="batches' parts waiting per model; more are refused")
    explain_limit: int = Field(4, ge=1, le=64, description="explanations at work at once per model")
    session_limit: int = Field(10_000, ge=1, description="sessions open at once")
    session_limit_of_one: int = Field(
        5_000, ge=0, description="of them of one tenant; 0 = all, as of callers of no tenant"
    )
    session_idle_s: float = Field(600, gt=0, description="a session unused for this long ends")
    session_checkpoint_steps: int = Field(16, ge=1, description="steps of a stream after which it is checkpointed")
    session_checkpoint_ms: int = Field(250, ge=1, description="longest time after a step until it is checkpointed")
    redis_url: RedisUrl = Field(
        "", repr=False, description="URL of the Redis that keeps sessions; empty = none does"
    )
    redis_operation_ms: int = Field(200, ge=1, description="longest wait for Redis; streams do not wait")

    @property
    def defaults(self) -> Mapping[str, str]:
        """Task → model that answers when a request names none."""
        return {
            "sequence.session": self.session_model,
            "sequence.classify": self.series_classify_model,
            "sequence.classify.text": self.text_classify_model,
            "sequence.embed": self.text_embed_model,
            "sequence.transduce": self.transduce_model,
            "sequence.forecast": self.forecast_model,
        }

    @property
    def runners(self) -> RunnerSettings:
        return RunnerSettings(None if self.runner == "auto" else self.runner, self.threads, self.device)
