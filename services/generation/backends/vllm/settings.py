"""Settings of the vllm backend. Knows no vLLM."""

from typing import Literal

from pydantic import Field

from services.runtime.settings import ServerSettings


class VLLMSettings(ServerSettings):
    """What vLLM is told beside the sizes that every backend has."""

    vllm_dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="vllm backend: of weights and KV cache; auto = two bytes a number"
    )
    vllm_context: int | None = Field(
        None, ge=2, description="vllm backend: most tokens of a sequence; unset = all that the model has"
    )
    vllm_block_tokens: int | None = Field(
        None, ge=1, description="vllm backend: tokens a KV block; unset = what suits the device"
    )
    vllm_gpu_memory: float = Field(0.9, gt=0, le=1, description="vllm backend: part of each GPU's memory to take")
    vllm_tensor_parallel: int = Field(1, ge=1, description="vllm backend: GPUs that share each layer")
    vllm_pipeline_parallel: int = Field(1, ge=1, description="vllm backend: groups of GPUs that share the layers")
    vllm_executor: Literal["auto", "mp", "ray"] = Field(
        "auto", description="vllm backend: how its workers are started; ray = over several machines"
    )
    vllm_eager: bool = Field(False, description="vllm backend: neither compile nor capture; starts sooner")
