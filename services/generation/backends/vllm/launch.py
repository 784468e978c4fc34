"""vLLM itself, started and spoken to: the only file that imports it, and so imported only where it is chosen.

Checked with its version 0.32 on CPUs.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import count
from pathlib import Path
from typing import Any

from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMClientError
from vllm.inputs.engine import tokens_input
from vllm.outputs import RequestOutput
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from services.generation.backends.vllm.client import EngineDied, Order, Output
from services.generation.settings import GenerationSettings
from services.generation.stream import Observer
from services.runtime.errors import InvalidInput, PreconditionFailed

MOST_LOGPROBS = 100  # the contract's limit
PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


class Steps:
    """Hears of each of the engine's passes; a stat logger, as vLLM calls it."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.batch_size = 1

    def record(
        self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0
    ) -> None:
        """One pass: how many sequences it moved, and how many wait."""
        if scheduler_stats is not None and iteration_stats is not None:
            self.batch_size = max(iteration_stats.num_generation_tokens, 1)
            self._observer.stepped(self.batch_size, scheduler_stats.num_waiting_reqs)

    def log_engine_initialized(self) -> None: ...

    def log(self) -> None: ...

    def record_sleep_state(self, is_awake: int, level: int) -> None: ...


class VLLMClient:
    """A running engine, of `precision`."""

    def __init__(self, engine: AsyncLLM, steps: Steps) -> None:
        self._engine = engine
        self._steps = steps
        self._names = map(str, count())
        self.precision = PRECISIONS[str(engine.model_config.dtype).removeprefix("torch.")]

    async def generate(self, order: Order) -> AsyncGenerator[Output]:
        """As `Client.generate`."""
        prompt = tokens_input(list(order.prompt), cache_salt=order.salt)
        try:
            params = SamplingParams(detokenize=False, output_kind=RequestOutputKind.DELTA, **order.sampling)
            replies = self._engine.generate(prompt, params, next(self._names), priority=-order.priority)
            async with aclosing(replies):
                async for reply in replies:
                    yield self._output(reply)
        except VLLMClientError as error:
            raise InvalidInput("", f"the engine refuses the request: {error}") from error
        except EngineDeadError as error:
            raise EngineDied from error

    def shutdown(self) -> None:
        """As `Client.shutdown`."""
        self._engine.shutdown()

    def _output(self, reply: RequestOutput) -> Output:
        (found,) = reply.outputs
        return Output(
            token_ids=found.token_ids,
            logprobs=found.logprobs or (),
            prompt_logprobs=reply.prompt_logprobs or (),
            cached_tokens=reply.num_cached_tokens or 0,
            scheduled=reply.metrics.scheduled_ts,
            batch_size=self._steps.batch_size,
        )


def launch(checkpoint: Path, context: int, settings: GenerationSettings, observer: Observer) -> VLLMClient:
    """Starts the engine's processes and waits for the weights. PreconditionFailed if it is of other devices."""
    if settings.device != current_platform.device_type:
        raise PreconditionFailed(
            f"this vLLM computes on {current_platform.device_type}; set MAAS_DEVICE so, or install another build"
        )
    steps = Steps(observer)
    engine = AsyncLLM.from_engine_args(
        _arguments(checkpoint, context, settings), stat_loggers=[lambda config, engine_index=0: steps]
    )
    return VLLMClient(engine, steps)


def _arguments(checkpoint: Path, context: int, settings: GenerationSettings) -> AsyncEngineArgs:
    """No tokenizer, no defaults of its own for sampling: only ids and what a request says."""
    executor = settings.vllm_executor
    return AsyncEngineArgs(
        model=str(checkpoint),
        skip_tokenizer_init=True,
        generation_config="vllm",
        dtype=settings.vllm_dtype,
        max_model_len=context,
        max_num_seqs=settings.batch_sequences,
        max_num_batched_tokens=max(settings.batch_tokens, settings.batch_sequences),
        max_logprobs=MOST_LOGPROBS,
        logprobs_mode="raw_logprobs",
        scheduling_policy="priority",
        enable_prefix_caching=True,
        block_size=settings.vllm_block_tokens,
        enforce_eager=settings.vllm_eager,
        gpu_memory_utilization=settings.vllm_gpu_memory,
        kv_cache_memory_bytes=settings.kv_cache_mib << 20 if settings.device == "cpu" else None,
        tensor_parallel_size=settings.vllm_tensor_parallel,
        pipeline_parallel_size=settings.vllm_pipeline_parallel,
        distributed_executor_backend=None if executor == "auto" else executor,
        disable_log_stats=True,
    )
