"""Settings of the vision service. Knows no model."""

import os
from typing import Literal

from pydantic import Field

from services.runtime.runners.open import RunnerSettings
from services.runtime.settings import ServerSettings

MAX_DEFAULT_THREADS = 4


def by_machine() -> int:
    """One convolution net uses few cores well; beyond four, more processes serve better than more threads."""
    return min(MAX_DEFAULT_THREADS, len(os.sched_getaffinity(0)))


class VisionSettings(ServerSettings):
    """What the vision service needs on top of every server."""

    port: int = Field(50052, ge=0, le=65535, description="port to listen on; 0 = any free one")
    max_message_mib: int = Field(64, ge=1, le=1024, description="largest message, both ways, MiB")
    threads: int = Field(
        default_factory=by_machine,
        ge=1,
        le=256,
        description="batches computed beside each other, or threads of a lone one; the cores, four at most",
    )
    image_classify_model: str = Field("efficientnet-lite0", description="model of Classify when none is named")
    image_embed_model: str = Field("efficientnet-lite0", description="model of Embed when none is named")
    runner: Literal["auto", "torch", "onnxruntime"] = Field(
        "auto", description="auto = the runner chosen when the model was published"
    )
    vision_precision: Literal["auto", "fp32", "int8"] = Field(
        "auto", description="auto = int8 where it agreed with fp32 and was faster when the model was published"
    )
    batch_images: int = Field(4, ge=1, le=1024, description="most images computed together; more of tiny ones")
    decode_threads: int = Field(2, ge=1, le=64, description="threads that decode and resize pictures")
    image_queue_limit: int = Field(512, ge=64, description="images at work: decoded, waiting or computed")
    request_megapixels: int = Field(100, ge=40, le=4000, description="most pixels of a request's images, millions")
    explain_limit: int = Field(4, ge=1, le=64, description="explanations at work at once per model")
    stream_window: int = Field(8, ge=1, le=256, description="requests of one stream that overlap")
    stream_images: int = Field(128, ge=64, description="images of one stream at work; its others wait")

    @property
    def defaults(self) -> dict[str, str]:
        """Task → model when a request names none."""
        return {"vision.classify": self.image_classify_model, "vision.embed": self.image_embed_model}

    @property
    def request_pixels(self) -> int:
        return self.request_megapixels * 1_000_000

    @property
    def runner_settings(self) -> RunnerSettings:
        return RunnerSettings(
            force=None if self.runner == "auto" else self.runner,
            threads=self.threads,
            device=self.device,
            precision=None if self.vision_precision == "auto" else self.vision_precision,
            lanes=self.threads if self.device == "cpu" else 1,
        )
