"""Settings of the generation service. Knows no model."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from services.generation.backends.vllm.settings import VLLMSettings
from services.generation.models.config import CHUNK
from services.runtime.compiled import FOLDER
from services.runtime.redis_settings import RedisSettings, RedisUrl

# By backend: what the device may be called, and that in words.
DEVICES = {"engine": (r"cpu|cuda(:\d+)?", "cpu, cuda, cuda:1 …"), "vllm": ("cpu|cuda", "cpu or cuda")}


class GenerationSettings(VLLMSettings, RedisSettings):
    """What the generation service needs on top of every server."""

    port: int = Field(50054, ge=0, le=65535, description="port to listen on; 0 = any free one")
    generate_model: str = Field("smollm2-135m-instruct", description="model when a request names none")
    backend: Literal["engine", "vllm"] = Field(
        "engine",
        description="what generates: the suite's own engine, or vLLM where that is installed",
    )
    precision: Literal["auto", "int8", "bf16", "fp16", "fp32"] = Field(
        "auto",
        description="of weights and KV cache; auto = int8 where it can be had and costs under 1 %, bf16 on CUDA",
    )
    cuda_graphs: bool = Field(True, description="record the passes that only decode, and replay them; on CUDA")
    kernels: Path = Field(FOLDER, description="where the int8 kernels are kept once they are built")
    kv_cache_mib: int = Field(1024, ge=16, description="memory for keys and values of each model, MiB")
    kv_block_tokens: int = Field(16, ge=1, le=64, description=f"tokens a KV block of floats; divides {CHUNK}")
    batch_tokens: int = Field(256, ge=1, description="prompt tokens computed a step, beside the decodes")
    batch_sequences: int = Field(64, ge=1, description="sequences that run at once")
    priority_step_s: float = Field(
        5.0, gt=0, description="what of a priority got nothing for so many seconds rises by one priority"
    )
    speculation: bool = Field(
        True, description="draft tokens by looking up what followed the last ones before; changes no text"
    )
    grammars: int = Field(64, ge=1, description="compiled constraints kept of each model")
    adapters_max: int = Field(8, ge=1, description="adapters that each model keeps in memory")
    redis_url: RedisUrl = Field(
        "", repr=False, description="URL of the Redis where streams are recorded; empty = none are"
    )
    redis_operation_ms: int = Field(500, ge=1, description="longest wait for Redis, away from the streams")
    stream_ttl_s: float = Field(600, gt=0, description="life of a stream's record after its last message")
    stream_record_kib: int = Field(1024, ge=1, description="largest record of a stream, KiB")
    text_threads: int = Field(2, ge=1, le=64, description="threads that tokenize long prompts")

    @field_validator("kv_block_tokens")
    @classmethod
    def _divides_chunk(cls, value: int) -> int:
        if CHUNK % value:
            raise ValueError(f"must divide {CHUNK}")
        return value

    @field_validator("backend")
    @classmethod
    def _has_device(cls, value: str, info: ValidationInfo) -> str:
        device, (names, known) = info.data.get("device", ""), DEVICES[value]
        if not re.fullmatch(names, device):
            raise ValueError(f"this backend does not run on MAAS_DEVICE={device}, but on {known}")
        return value

    @field_validator("precision")
    @classmethod
    def _has_kernels(cls, value: str, info: ValidationInfo) -> str:
        device = info.data.get("device", "")
        if value == "int8" and info.data.get("backend") == "engine" and device != "cpu":
            raise ValueError(
                f"the eight-bit kernels are for CPUs; on MAAS_DEVICE={device} take bf16, fp16 or fp32"
            )
        return value

    @property
    def defaults(self) -> dict[str, str]:
        """Task → model when a request names none."""
        return {"generation.generate": self.generate_model}
